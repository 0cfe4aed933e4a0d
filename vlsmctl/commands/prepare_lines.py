"""What `vlsmctl prepare` prints for people, made from the documents that --json prints."""

from __future__ import annotations

from typing import Any

_SHOWN = 50


def recognised_lines(document: dict[str, Any], *, planned: bool = False) -> list[str]:
    """What was found under the raw folder, with the commands that go on from there. planned: the plan of
    each set follows, and says how much there is of it."""
    lines = [
        f"found {root['name']}: {_counted(root['records'], root['expected'])} in {root['path']}"
        for root in document.get("recognised", ())
        if not planned
    ]
    lines += [
        f"also {root['name']}, not used: {root['records']} records in {root['path']}"
        for root in document.get("not_used", ())
    ]
    lines += [f"passed over: {one['path']}: {one['reason']}" for one in document.get("troubles", ())]
    for archive in document.get("archives", ()):
        what = f"found {archive['name']} as an archive" if archive["name"] else "an archive of something"
        lines.append(f"{what}, not unpacked: {archive['path']}")
        command = " ".join(filter(None, ("vlsmctl prepare", archive["name"])))
        lines.append(f'  to unpack it and see: {command} --raw "{archive["path"]}"')
    for own in document.get("own", ()):
        lines.append(f"pictures and masks of no known set: {own['records']} in {own['path']}")
        lines += [f"  {note}" for note in own["notes"]]
        lines.append(f"  to make a data set of them: {own['command']}")
    return lines


def _counted(records: int, expected: int | None) -> str:
    return f"{records} records" + (f" of {expected} expected" if expected is not None else "")


def set_lines(document: dict[str, Any]) -> list[str]:
    """A data set's document as lines for people."""
    lines = [] if "folder" not in document else [_headline(document)]
    if "expected" in document:
        verb = "would be made again" if document["exists"] else "would be made"
        lines.append(f"  {document['folder']} {verb}; nothing was written")
    lines += [f"  warning: {text}" for text in document.get("warnings", ())]
    lines += [f"  note: {text}" for text in document.get("notes", ())]
    lines += _left_out_lines(document)
    if "told" in document:
        lines.append("  audit of the splits:")
        lines += [f"    {text}" for text in document["told"]]
    lines += [f"  {word}: {document[word]}" for word in ("preview", "export") if word in document]
    return lines


def _headline(document: dict[str, Any]) -> str:
    if "expected" in document:
        counted = _counted(document["records"], document["expected"])
        return f"{document['name']}: {counted} in {document['raw']}"
    if "counts" not in document:
        return f"{document['folder']}:"
    counts = ", ".join(f"{count} {split}" for split, count in document["counts"].items())
    unchanged = document["unchanged"]
    kept = f"; {unchanged} of {document['images']} images had not changed" if unchanged else ""
    return f"{document['folder']}: {counts}; {document['empty_masks']} with an empty mask{kept}"


def _left_out_lines(document: dict[str, Any]) -> list[str]:
    left_out = document.get("left_out", ())
    lines = [f"  left out: {len(left_out)}"] if left_out else []
    lines += [
        f"    {one['file']}: expected {one['expected']}, found {one['found']}" for one in left_out[:_SHOWN]
    ]
    if len(left_out) > _SHOWN:
        more = "--json lists them all" if "expected" in document else "dataset.json lists them all"
        lines.append(f"    and {len(left_out) - _SHOWN} more; {more}")
    return lines
