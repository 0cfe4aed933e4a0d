"""What several messages say in the same way: lists of names, amounts of bytes."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], count: int | None = None, shown: int = 5) -> str:
    """The first `shown` names, and how many there are besides: "a, b and 3 more"; "" for none. count: of
    all names, where `names` are only the first of them."""
    rest = max(len(names), count or 0) - min(len(names), shown)
    more = f" and {rest} more" if rest else ""
    return ", ".join(names[:shown]) + more


def in_bytes(count: int) -> str:
    """An amount in the unit that suits it: "1.2 GB", "3.4 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
