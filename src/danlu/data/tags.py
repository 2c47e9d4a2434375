"""Tags that name entities, and the schemes they follow.

Tags name parts of entities: B-, M- (or I-) and E- its beginning, middle and end, S- a whole of one
token, O no entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from danlu.data.schema import Schema

Span = tuple[int, int, str]  # of an entity: first token, one past the last, kind


@dataclass(frozen=True)
class Scheme:
    """A way of tagging entities.

    letters: all there are; begins: those with which an entity begins; ends: those after which it
    may be whole.
    """

    letters: str
    begins: str
    ends: str


_NOT_CLOSED = "but the entity is not closed"

SCHEMES = {
    "bmes": Scheme("BMES", "BS", "ES"),
    "bioes": Scheme("BIES", "BS", "ES"),
    "bio": Scheme("BI", "B", "BI"),
}


def split_tag(tag: str) -> tuple[str, str]:
    """Return the letter and the kind of a tag, both empty for O."""
    if tag in ("O", ""):
        return "", ""
    return tag[0], tag[2:]


def follows_scheme(tag: str, scheme: str) -> bool:
    """Whether a tag could be one of the scheme's."""
    if tag == "O":
        return True
    has_kind = len(tag) > 2 and tag[1] == "-"
    return has_kind and tag[0] in SCHEMES[scheme].letters


def scheme_of(tags: Iterable[str], nearly: float = 1.0) -> str | None:
    """Return the scheme that tags follow: bio, bmes or bioes.

    None for plain labels, such as parts of speech. nearly: the share of the tags beside O that must
    follow it.
    """
    named = [tag for tag in tags if tag != "O"]
    if not named:
        return None
    fits = {}
    # The order decides between schemes that fit alike.
    for scheme in ("bio", "bmes", "bioes"):
        following = [tag for tag in named if follows_scheme(tag, scheme)]
        fits[scheme] = len(following)
    best = max(fits, key=lambda scheme: fits[scheme])
    if fits[best] < nearly * len(named):
        return None
    return best


def first_violation(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """Return the first place where tags are out of order, and why; None where all are in order."""
    before = "O"
    for i, tag in enumerate(tags):
        if not _may_follow(before, tag, scheme):
            return i, _reason_against(tags, i, scheme)
        before = tag
    if not _may_follow(before, "", scheme):
        last = len(tags) - 1
        return last, f"{before!r} is followed by the end of the sentence, {_NOT_CLOSED}"
    return None


def _reason_against(tags: Sequence[str], i: int, scheme: str) -> str:
    """Say why a tag may not stand where it does."""
    tag = tags[i]
    before = tags[i - 1]
    letter, _ = split_tag(tag)
    continues = bool(letter) and letter not in SCHEMES[scheme].begins
    if not continues:
        return f"{before!r} is followed by {tag!r}, {_NOT_CLOSED}"
    if i == 0:
        return f"{tag!r} begins no entity"
    return f"{tag!r} begins no entity, but comes after {before!r}"


def repaired(tags: Sequence[str], scheme: str) -> list[str]:
    """Return tags in order, with the entities that the script conlleval finds in them.

    An entity begins where a tag says so, or continues none of its kind; it ends where the next
    begins. (Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task".)
    """
    rules = SCHEMES[scheme]
    found: list[Span] = []
    before = ""
    for i, tag in enumerate(tags):
        letter, kind = split_tag(tag)
        letter_before, kind_before = split_tag(before)
        is_closed = scheme != "bio" and letter_before in rules.ends
        continues = bool(letter_before) and kind == kind_before and not is_closed
        if letter and (letter in rules.begins or not continues):
            found.append((i, i + 1, kind))
        elif letter:
            start, _, _ = found[-1]
            found[-1] = (start, i + 1, kind)
        before = tag
    return _tags_of_spans(found, len(tags), scheme)


def _tags_of_spans(entities: Sequence[Span], n: int, scheme: str) -> list[str]:
    tags = ["O"] * n
    inner = "M" if scheme == "bmes" else "I"
    for start, end, kind in entities:
        letters = [inner] * (end - start)
        letters[0] = "B"
        if scheme != "bio":
            letters[-1] = "S" if end - start == 1 else "E"
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags


def allowed_transitions(tags: Sequence[str], scheme: str | None) -> tuple[tuple[bool, ...], ...]:
    """Return which tag may follow which, [K + 1, K + 1].

    The last row is of what a sentence may begin with, the last column of what it may end with.
    Empty without a scheme.
    """
    if scheme is None:
        return ()
    with_edge = [*tags, ""]
    rows = []
    for before in with_edge:
        row = [_may_follow(before, after, scheme) for after in with_edge]
        rows.append(tuple(row))
    return tuple(rows)


def _may_follow(before: str, after: str, scheme: str) -> bool:
    """Whether one tag may come after another; "" is the sentence's edge."""
    rules = SCHEMES[scheme]
    letter_before, kind_before = split_tag(before)
    letter, kind = split_tag(after)
    if not letter or letter in rules.begins:
        return not letter_before or letter_before in rules.ends
    # In BIO nothing but the next tag closes an entity.
    is_open = scheme == "bio" or letter_before not in rules.ends
    is_same_kind = kind_before == kind
    return bool(letter_before) and is_open and is_same_kind


def open_at_end(tags: Sequence[str], scheme: str) -> list[str]:
    """Return the tags at a sentence's end of an entity that is not closed there."""
    rules = SCHEMES[scheme]
    for start in reversed(range(len(tags))):
        tag = tags[start]
        if tag == "O" or tag[0] in rules.ends:
            break
        if tag[0] in rules.begins:
            return list(tags[start:])
    return []


def closing_at_start(tags: Sequence[str], scheme: str) -> list[str]:
    """Return the tags at a sentence's start up to where an entity from before it is closed."""
    rules = SCHEMES[scheme]
    for k, tag in enumerate(tags):
        if tag == "O" or tag[0] in rules.begins:
            break
        if tag[0] in rules.ends:
            return list(tags[: k + 1])
    return []


def entities_of(numbers: Iterable[int], schema: Schema) -> list[Span]:
    """Return the entities of a sentence whose tags are numbers of classes."""
    tags = [schema.classes[k] for k in numbers]
    return spans(tags, schema.scheme)


def spans(tags: Sequence[str], scheme: str | None) -> list[Span]:
    """Return entities as (first token, one past the last, kind).

    Of tags out of order, what can be read as whole. Without a scheme every token is one.
    """
    if scheme is None:
        return [(i, i + 1, tag) for i, tag in enumerate(tags)]
    rules = SCHEMES[scheme]
    entities: list[Span] = []
    start = -1  # of the entity that is open; −1 while none is
    open_kind = ""
    # An O after the last tag closes what is open there.
    for i, tag in enumerate([*tags, "O"]):
        letter, kind = split_tag(tag)
        is_open = start >= 0
        begins = bool(letter) and letter in rules.begins
        continues = is_open and bool(letter) and not begins and kind == open_kind
        if is_open and not continues:
            # In BIO an entity ends where the next tag does not continue it.
            letter_before = tags[i - 1][0]
            if scheme == "bio" or letter_before in rules.ends:
                entities.append((start, i, open_kind))
            start = -1

        # In BIO only the next tag tells whether this one closes its entity.
        is_an_end = bool(letter) and letter in rules.ends
        closes = is_an_end and scheme != "bio"
        if begins:
            start = i
            open_kind = kind
        if closes and (begins or continues):
            entities.append((start, i + 1, kind))
            start = -1
    return entities
