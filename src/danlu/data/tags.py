"""Tags that name entities, and the schemes they follow.

Tags name parts of entities: B-, M- (or I-) and E- its beginning, middle and end, S- a whole of one
token, O no entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


SCHEMES = {
    "bmes": Scheme("BMES", "BS", "ES"),
    "bioes": Scheme("BIES", "BS", "ES"),
    "bio": Scheme("BI", "B", "BI"),
}


def split_tag(tag: str) -> tuple[str, str]:
    """Return the letter and the kind of a tag, both empty for O."""
    return ("", "") if tag in ("O", "") else (tag[0], tag[2:])


def follows_scheme(tag: str, scheme: str) -> bool:
    """Whether a tag could be one of the scheme's."""
    has_kind = len(tag) > 2 and tag[1] == "-"
    return tag == "O" or (has_kind and tag[0] in SCHEMES[scheme].letters)


def scheme_of(tags: Iterable[str], nearly: float = 1.0) -> str | None:
    """Return the scheme that tags follow: bio, bmes or bioes.

    None for plain labels, such as parts of speech. nearly: the share of the tags beside O that must
    follow it.
    """
    named = [tag for tag in tags if tag != "O"]
    # The order decides between schemes that fit alike.
    fits = {s: sum(follows_scheme(tag, s) for tag in named) for s in ("bio", "bmes", "bioes")}
    best = max(fits, key=lambda scheme: fits[scheme])
    return best if named and fits[best] >= nearly * len(named) else None


def first_violation(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """Return the first place where tags are out of order, and why; None where all are in order."""
    rules, open_letter, open_kind = SCHEMES[scheme], "", ""
    for i, tag in enumerate([*tags, "O"]):
        letter, kind = split_tag(tag)
        continues = bool(letter) and letter not in rules.begins
        if continues:
            is_closed = open_letter in rules.ends and scheme != "bio"
            if not open_letter or kind != open_kind or is_closed:
                after = f", but comes after {tags[i - 1]!r}" if i else ""
                return i, f"{tag!r} begins no entity{after}"
        elif open_letter and open_letter not in rules.ends:
            is_end = i == len(tags)
            follower = "the end of the sentence" if is_end else repr(tag)
            reason = f"{tags[i - 1]!r} is followed by {follower}, but the entity is not closed"
            return (i - 1 if is_end else i), reason
        open_letter, open_kind = letter, kind
    return None


def allowed_transitions(tags: Sequence[str], scheme: str | None) -> tuple[tuple[bool, ...], ...]:
    """Return which tag may follow which, [K + 1, K + 1].

    The last row is of what a sentence may begin with, the last column of what it may end with.
    Empty without a scheme.
    """
    if scheme is None:
        return ()
    rules, with_edge = SCHEMES[scheme], [*tags, ""]

    def allowed(before: str, after: str) -> bool:
        letter_before, kind_before = split_tag(before)
        letter, kind = split_tag(after)
        if not letter or letter in rules.begins:
            return not letter_before or letter_before in rules.ends
        is_open = scheme == "bio" or letter_before not in rules.ends
        return bool(letter_before) and kind_before == kind and is_open

    return tuple(tuple(allowed(before, after) for after in with_edge) for before in with_edge)


def open_at_end(tags: Sequence[str], scheme: str) -> list[str]:
    """Return the tags at a sentence's end of an entity that is not closed there."""
    rules, k = SCHEMES[scheme], len(tags)
    while k and tags[k - 1] != "O" and tags[k - 1][0] not in rules.ends:
        k -= 1
        if tags[k][0] in rules.begins:
            return list(tags[k:])
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


def spans(tags: Sequence[str], scheme: str | None) -> list[Span]:
    """Return entities as (first token, one past the last, kind).

    Of tags out of order, what can be read as whole. Without a scheme every token is one.
    """
    if scheme is None:
        return [(i, i + 1, tag) for i, tag in enumerate(tags)]
    rules = SCHEMES[scheme]
    found: list[Span] = []
    start, open_kind = -1, ""
    for i, tag in enumerate([*tags, "O"]):
        letter, kind = split_tag(tag)
        is_open = start >= 0
        continues = is_open and bool(letter) and letter not in rules.begins and kind == open_kind
        if is_open and not continues:
            # In BIO an entity ends where the next tag does not continue it.
            if scheme == "bio" or tags[i - 1][0] in rules.ends:
                found.append((start, i, open_kind))
            start = -1
        closes_itself = scheme != "bio" and bool(letter) and letter in rules.ends
        if letter and letter in rules.begins:
            start, open_kind = i, kind
            if closes_itself:  # S, a whole of one token
                found.append((i, i + 1, kind))
                start = -1
        elif continues and closes_itself:
            found.append((start, i + 1, open_kind))
            start = -1
    return found
