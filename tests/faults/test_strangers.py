"""Every command over a stranger's folders: no program, no connection, nothing touched elsewhere."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data.samples import make_pictures
from faults import hostile
from faults.spoiling import say

from danlu import Recipe, Run, Study, fit, load, resume
from danlu.errors import DanluError, Untrusted

COMMANDS = (
    ("runs",),
    ("show", "{}"),
    ("show", "{}", "--json"),
    ("diagnose", "{}"),
    ("gradcheck", "{}"),
    ("treat", "{}", "--seeds", "2", "--rounds", "1", "--out", "{out}/treat"),
    ("suspects", "{}", "--folds", "2", "--out", "{out}/suspects"),
    ("ensemble", "{}", "--members", "2"),
    ("check", "digits", "-r", "{}", "--limit", "100"),
    (
        "decompose",
        "digits",
        "-r",
        "{}",
        "--replicates",
        "2",
        "--limit",
        "100",
        "--out",
        "{out}/decompose",
    ),
    ("report", "{}"),
    ("evaluate", "{}"),
    ("predict", "{}", "{table}"),
    ("score", "{}", "a"),
    ("generate", "{}"),
    ("resume", "{}"),
    ("recipe", "show", "{}"),
    ("recipe", "check", "{}"),
    ("recipe", "diff", "{}", "digits"),
    ("show", "{}:0"),
    ("fit", "digits", "-r", "{}", "--out", "{out}/fit"),
    ("fit", "digits", "-r", "{}/recipe.toml", "--out", "{out}/fit2"),
    ("summary", "-r", "{}", "input=1x8x8"),
    ("compare", "digits", "lr=0.1,0.2", "-r", "{}", "--out", "{out}/compare"),
    ("tune", "digits", "lr=0.1..0.2", "-r", "{}", "--trials", "1", "--out", "{out}/tune"),
)
KINDS = (
    "run",
    "interrupted run",
    "comparison",
    "interrupted comparison",
    "search",
    "treatment",
    "interrupted treatment",
    "ensemble",
    "decomposition",
)
ATTACKS: dict[str, Callable[[Path, Path], None]] = {
    "code": lambda folder, victim: hostile.name_code(folder, victim / "mark"),
    "loss": lambda folder, victim: hostile.name_loss(folder, victim / "mark"),
    "linked checkpoint": lambda f, victim: hostile.link_folder(f, "checkpoint", victim),
    "linked chunk": lambda f, victim: hostile.link_folder(
        f, "checkpoint/000000x1-00000000", victim
    ),
    "linked members": lambda f, victim: hostile.link_folder(f, "members", victim),
    "linked curves": lambda f, victim: hostile.link_folder(f, "curves", victim),
    "linked lock": lambda f, victim: hostile.link_file(f, ".lock", victim / "precious"),
    "linked report": lambda f, victim: hostile.link_file(f, "report.html", victim / "precious"),
    "linked history": lambda f, victim: hostile.link_file(f, "metrics.jsonl", victim / "precious"),
    "linked trials": lambda f, victim: hostile.link_file(f, "trials.db", victim / "data.db"),
    "storage": lambda f, victim: hostile.name_storage(f, f"sqlite:///{victim / 'data.db'}"),
    "server": lambda f, victim: hostile.name_storage(f, "postgresql://u@127.0.0.1:9/x"),
    "hub": lambda f, victim: hostile.name_source(f, "hub:evil/thing"),
    "download": lambda f, victim: hostile.name_source(f, "fashion-mnist"),
    "other chunk": lambda f, victim: hostile.climb(f),
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_strangers_folder_touches_nothing_else(
    attack: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("precious", "data.db", "000000000001.safetensors"):
        (victim / name).write_bytes(b"")
    table = tmp_path / "t.csv"
    table.write_text("a\n1\n")
    before = {file.name: file.stat().st_mtime_ns for file in victim.iterdir()}
    cache = Path(os.environ["XDG_CACHE_HOME"])
    monkeypatch.delenv("DANLU_DATA", raising=False)
    for kind in KINDS:
        root = tmp_path / kind.replace(" ", "-")
        copy = root / "runs" / "it"
        monkeypatch.setenv("DANLU_RUNS", str(root / "runs"))
        shutil.copytree(folders[kind], copy)
        (root / "tmp").mkdir()  # short trainings of a check are gone afterwards
        monkeypatch.setattr(tempfile, "tempdir", str(root / "tmp"))
        try:
            ATTACKS[attack](copy, victim)
        except FileNotFoundError:
            continue  # of another kind of folder
        wire = hostile.Tripwire(root, cache)
        for words in COMMANDS:
            with wire.watching():
                said = say(*(w.format(copy, table=table, out=root / "out") for w in words))
            assert not wire.trips, (kind, words, wire.trips, said)
            assert said.code not in (-1, 70), (kind, words, said)
            assert "Traceback" not in said.err, (kind, words, said)
    assert {file.name: file.stat().st_mtime_ns for file in victim.iterdir()} == before


def test_the_tripwire_would_notice(folders: dict[str, Path], tmp_path: Path) -> None:
    wire = hostile.Tripwire(tmp_path / "allowed")
    with wire.watching():
        os.system("true")
        (tmp_path / "elsewhere").write_text("")
        (tmp_path / "elsewhere").unlink()
    kinds = [trip.split()[0] for trip in wire.trips]
    assert kinds == ["os.system", "write", "os.remove"]
    # What trust allows is what is refused without it.
    copy = tmp_path / "copy"
    shutil.copytree(folders["interrupted search"], copy)
    hostile.name_storage(copy, f"sqlite:///{tmp_path / 'other.db'}")
    wire = hostile.Tripwire(copy)
    with wire.watching():
        say("resume", copy, "--trust")
    assert any("sqlite3.connect" in trip and "other.db" in trip for trip in wire.trips)


def test_only_what_is_typed_is_trusted(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    (tmp_path / "nets.py").write_text("")
    recipe.write_text('epochs = 1\n[model]\nname = "torch.nn:Linear"\n')
    read = Recipe.read(str(recipe))
    with pytest.raises(Untrusted, match=r"r.toml imports torch.nn:Linear, and that runs code"):
        fit(read, load("iris"))
    for changed in (read.with_(["epochs=2"]), read.with_(seed=3)):
        with pytest.raises(Untrusted):
            fit(changed, load("iris"))
    args = {"model.args": {"in_features": 4, "out_features": 3}}
    for vouched in (
        Recipe.read(str(recipe), trust=True),
        read.with_(["model=torch.nn:Linear"]),
        Recipe(epochs=1, model="torch.nn:Linear"),
    ):
        assert fit(vouched.with_(**args), load("iris")).status == "finished"
    assert say("fit", "iris", "-r", recipe).code == 2
    words = ("model.args.in_features=4", "model.args.out_features=3")
    assert say("fit", "iris", "-r", recipe, *words, "--trust").code == 0
    assert say("fit", "iris", "-r", recipe, "model=torch.nn:Linear", *words).code == 0


def test_a_trusted_name_is_looked_at_before_it_is_called() -> None:
    for name in ("os:system", "subprocess:run", "shutil:rmtree", "builtins:eval"):
        with pytest.raises(DanluError, match="is of Python's own library"):
            fit(Recipe(model={"name": name}), load("iris"))
    with pytest.raises(DanluError, match="which is the class OrderedDict"):
        fit(Recipe(model="collections:OrderedDict"), load("iris"))


def test_links_are_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "000000000001.safetensors").write_text("mine")
    copy = tmp_path / "copy"
    shutil.copytree(folders["interrupted run"], copy)
    hostile.link_folder(copy, "checkpoint", victim)
    with pytest.raises(DanluError, match="checkpoint is a link, and links in a run's folder"):
        resume(copy)
    assert (victim / "000000000001.safetensors").read_text() == "mine"
    # The user's own name for a folder may be a link.
    (tmp_path / "alias").symlink_to(folders["run"])
    assert Run(tmp_path / "alias").evaluate().n
    assert Study(folders["comparison"]).results


def test_folders_say_nothing_of_where_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(
        "a,b,kind\n" + "".join(f"{i % 7},{i},{i % 2}\n" for i in range(60))
    )
    make_pictures(tmp_path / "pictures", 8)
    with tarfile.open("pictures.tar.gz", "w:gz") as archive:
        archive.add("pictures")
    table = ("t.csv", "--target", "kind", "epochs=1")
    for words in (
        ("fit", *table, "--out", "run"),
        ("fit", *table, "init.weights=run", "--out", "further"),
        ("fit", "pictures.tar.gz", "epochs=1", "model=dense", "--out", "of-pictures"),
        ("compare", *table, "lr=0.1,0.2", "init.weights=run", "--out", "comparison"),
        ("tune", *table, "lr=0.1..0.2", "--trials", "2", "--out", "search"),
    ):
        said = say(*words)
        assert said.code == 0, said
    assert Recipe.read("further", trust=True).init.weights == "run"
    places = [str(tmp_path).encode(), str(Path.home()).encode()]
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.name == "report.html" for path in made) == 5
    told = [path for path in made if any(place in path.read_bytes() for place in places)]
    assert told == []
