"""Small sets of sequences that need no network: prose from Python's documentation, and generators.

Each generator draws from a stream of its own, so that it gives the same examples everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from danlu.data.raw import Raw
from danlu.data.sources import tagged, text
from danlu.data.sources.running import language_model_text
from danlu.errors import DataError
from danlu.rng import seed_of

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙马朱胡林郭何高罗"
_GIVEN = "刚明伟芳娜敏静强磊军洋勇艳杰涛超霞平英华玉兰飞燕红梅"
_WHEN = ("", "昨天", "今天", "听说", "后来", "早上", "刚才", "去年")
_PEOPLE = ("{}去上班了", "{}已经毕业了", "{}来过这里", "{}是我的老师", "{}在图书馆读书",
           "{}说他认识{}", "老师表扬了{}", "我看见{}和{}在说话", "{}和{}是同学", "{}把书还给了{}",
           "大家都喜欢{}", "{}给{}打了电话")  # fmt: skip
# What begins with a surname but names nobody: what follows tells.
_PLACES = ("王宫里", "高山上", "马路上", "黄河边", "林中", "江面上", "何处", "周围", "李子树下",
           "杨树下", "罗马城里", "吴国", "陈列馆里", "刘海下面", "赵州桥上", "徐州",
           "孙子的房间里", "朱红的大门前", "胡同里", "郭外")  # fmt: skip
_HOUSES, _BY = "府宫家庄村庙宅园店", "里内外前后旁"
_THINGS = (
    "有很多车",
    "没有人",
    "有一座庙",
    "站着几个孩子",
    "很安静",
    "开满了花",
    "下着大雨",
    "住着一位老人",
    "什么也看不见",
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July",
           "August", "September", "October", "November", "December")  # fmt: skip
_ONE = ("cat", "dog", "child", "teacher", "bird", "house", "river", "doctor", "farmer", "ship")
_MANY = (
    "cats",
    "dogs",
    "children",
    "teachers",
    "birds",
    "houses",
    "rivers",
    "doctors",
    "farmers",
    "ships",
)


_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def _draws(name: str) -> random.Random:
    return random.Random(seed_of(0, "made", name))


def prose(options: dict[str, Any], shares: Any = None) -> Raw:
    """Return English prose: the help topics that come with Python.

    Their wording differs a little between its versions.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as e:
        raise DataError(
            "'prose' is read from Python's help topics, but this Python comes without pydoc_data"
        ) from e
    return language_model_text(
        {"all": [topics[k] for k in sorted(topics)]}, "prose", options, shares
    )


def names(options: dict[str, Any], n: int = 1500) -> Raw:
    """Return Chinese sentences with the names of people tagged (BMES), no two of them equal.

    In as many a surname begins a place.
    """
    g = _draws("names")
    sentences: dict[str, tuple[list[str], list[str]]] = {}
    while len(sentences) < n:
        place = g.choice(
            (g.choice(_PLACES), g.choice(_SURNAMES) + g.choice(_HOUSES) + g.choice(_BY))
        )
        what = g.choice(_PEOPLE) if len(sentences) % 2 else place + g.choice(_THINGS)
        tokens: list[str] = []
        tags: list[str] = []
        for k, piece in enumerate((g.choice(_WHEN) + what).split("{}")):
            if k:
                name = [
                    g.choice(_SURNAMES),
                    *(g.choice(_GIVEN) for _ in range(g.choice((1, 1, 2)))),
                ]
                tokens += name
                tags += ["B-NAME", *["M-NAME"] * (len(name) - 2), "E-NAME"]
            tokens += piece
            tags += ["O"] * len(piece)
        sentences.setdefault("".join(tokens), (tokens, tags))
    every = list(sentences.values())
    g.shuffle(every)
    tokens_of, tags_of = zip(*every, strict=True)
    return tagged.from_lists(tokens_of, tags_of, options)


def dna(options: dict[str, Any], n: int = 4000, length: int = 60) -> Raw:
    """Return DNA of 60 bases, in half of which TATAAA lies somewhere.

    The other half holds it with two bases changed.
    """
    g = _draws("dna")
    texts, labels = [], []
    for i in range(n):
        bases = [g.choice("ACGT") for _ in range(length)]
        motif = list("TATAAA")
        if i % 2:
            for k in g.sample(range(6), 2):
                motif[k] = g.choice([b for b in "ACGT" if b != motif[k]])
        at = g.randrange(length - 6)
        bases[at : at + 6] = motif
        texts.append("".join(bases))
        labels.append("promoter" if "TATAAA" in texts[-1] else "none")
    return text.labelled(texts, labels, "dna", options)


def agreement(options: dict[str, Any], n: int = 4000) -> Raw:
    """Return sentences up to their verb: was it or were they?

    What lies between holds nouns of the other number.
    """
    g = _draws("agreement")
    texts, labels = [], []
    for _ in range(n):
        many = g.random() < 0.5
        words = ["the", g.choice(_MANY if many else _ONE), ","]
        for _ in range(g.randrange(1, 6)):
            other = g.choice(_ONE if g.random() < 0.5 else _MANY)
            words += [
                g.choice(("which", "that")),
                g.choice(("saw", "liked", "followed", "heard")),
                "the",
                other,
                ",",
            ]
        texts.append(" ".join(words))
        labels.append("were" if many else "was")
    return text.labelled(
        texts,
        labels,
        "agreement",
        {"tokens": "words", **{k: v for k, v in options.items() if v is not None}},
    )


def dates(options: dict[str, Any], n: int = 5000) -> Raw:
    """Dates as people write them → 1998-05-03."""
    g = _draws("dates")
    pairs = []
    for _ in range(n):
        y, m, d = g.randrange(1900, 2030), g.randrange(1, 13), g.randrange(1, 29)
        month = _MONTHS[m - 1]
        forms = (
            f"{d} {month} {y}",
            f"{month} {d}, {y}",
            f"{d} {month[:3]} {y}",
            f"{month[:3]} {d} {y}",
            f"{d:02}/{m:02}/{y}",
        )
        pairs.append((g.choice(forms), f"{y}-{m:02}-{d:02}"))
    return text.paired(pairs, "dates", options)


def spelling(options: dict[str, Any], copies: int = 10) -> Raw:
    """One token in, a sequence out: 200 of the numbers below 1,000 spelt in words, each ten times.

    A single token says nothing of another, so the parts hold the same pairs: what can be learnt is
    a table.
    """
    ones, tens = _ONES.split(), _TENS.split()

    def spell(k: int) -> str:
        if k < 20:
            return ones[k]
        if k < 100:
            return tens[k // 10 - 2] + (f" {ones[k % 10]}" if k % 10 else "")
        return f"{ones[k // 100]} hundred" + (f" and {spell(k % 100)}" if k % 100 else "")

    pairs = [(str(k), spell(k)) for k in _draws("spelling").sample(range(1000), 200)] * copies
    return text.paired(
        pairs,
        "spelling",
        {"tokens": "words", **{k: v for k, v in options.items() if v is not None}},
    )


MADE: dict[str, Callable[[dict[str, Any]], Raw]] = {
    "names": names,
    "dna": dna,
    "agreement": agreement,
    "dates": dates,
    "spelling": spelling,
}
