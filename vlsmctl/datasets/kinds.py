"""The known kinds of raw data, by the name that `prepare` and the presets call them."""

from __future__ import annotations

from vlsmctl.datasets.bkai import BKAI
from vlsmctl.datasets.busi import BUSI
from vlsmctl.datasets.camus import CAMUS
from vlsmctl.datasets.chexlocalize import CHEXLOCALIZE
from vlsmctl.datasets.clinicdb import CLINICDB
from vlsmctl.datasets.colondb import COLONDB
from vlsmctl.datasets.cvc300 import CVC300
from vlsmctl.datasets.dfu2022 import DFU2022
from vlsmctl.datasets.etis import ETIS
from vlsmctl.datasets.fuseg import FUSEG
from vlsmctl.datasets.generic import GENERIC
from vlsmctl.datasets.isic2016 import ISIC2016
from vlsmctl.datasets.kvasir import KVASIR
from vlsmctl.datasets.phantom import PHANTOM
from vlsmctl.datasets.records import Kind

OWN = "generic"  # one's own data, whatever its name

# In the order in which a folder is asked what it is; the one that takes nearly everything comes last.
DATASETS: dict[str, Kind] = {
    "kvasir": KVASIR,
    "clinicdb": CLINICDB,
    "bkai": BKAI,
    "cvc300": CVC300,
    "colondb": COLONDB,
    "etis": ETIS,
    "isic2016": ISIC2016,
    "dfu2022": DFU2022,
    "camus": CAMUS,
    "busi": BUSI,
    "chexlocalize": CHEXLOCALIZE,
    "fuseg": FUSEG,
    "phantom": PHANTOM,
    OWN: GENERIC,
}
