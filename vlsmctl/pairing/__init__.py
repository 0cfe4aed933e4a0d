"""Which prediction belongs to which target: by names (names.py, folders.py), by what `predict` wrote down
(ledgers.py), with what is known of their cases (tables.py, images.py)."""

from vlsmctl.pairing.pairs import WHY_NONE, CasePair, Matched, match

__all__ = ["WHY_NONE", "CasePair", "Matched", "match"]
