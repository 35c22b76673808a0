"""`blobsight try`, end to end: images up, questions through the app, answers side by side, nothing paid twice."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.storage.blob.aio import ContainerClient
from support.guarded_storage import guarded
from support.person import ROOT, Person
from support.pictures import picture
from support.some_results import failed
from support.terminal import Ran, blobsight, started

from blobsight.account import Place
from blobsight.trials import asking
from blobsight.trials.record import read_trial
from localcloud.model import Answer, Asked, Behaviour
from localcloud.model.script import Refusal, Slow
from pipeline.instructions.files import parse_file
from pipeline.names import result_name

COLOURS = ("teal", "red", "blue")
SCHEMA = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "total": {"type": "number"}},
    "required": ["shop", "total"],
    "additionalProperties": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures that no other test has, one called in capitals, and what is not an image."""
    folder = tmp_path / "receipts"
    folder.mkdir()
    for colour in COLOURS:
        (folder / f"{colour}.PNG").write_bytes(picture(colour=colour) + os.urandom(16))
    (folder / "notes.txt").write_text("Not a picture.", encoding="utf-8")
    return folder


@pytest.fixture
async def tester(person: Person) -> AsyncIterator[Person]:
    """The person, once the app has noted what it allows; and the model as it was, afterwards."""
    note = person.blobs.get_blob_client("pipeline-state", "readiness.json")
    async with asyncio.timeout(60):
        while not await note.exists():
            await asyncio.sleep(0.1)
    yield person
    person.cloud.model.script.policy = person.behave


def trials(person: Person) -> ContainerClient:
    return person.blobs.get_container_client("trials")


async def attempt(person: Person, *arguments: str) -> Ran:
    return await blobsight(person, "try", *arguments)


def question() -> str:
    return f"What is it? {uuid4().hex[:8]}"


def name_in(talk: str) -> str:
    found = re.search(r"Trial (\S+):", talk)
    assert found, talk
    return found[1]


async def test_variants_of_local_images_are_asked_through_the_app_and_shown_side_by_side(
    tester: Person, folder: Path
) -> None:
    asked = question()
    # The model is named, since results of other tests may be those of one without a price.
    ran = await attempt(tester, str(folder), "-i", asked, "--detail", "low,high", "--model", "gpt-5.4-mini", "--yes")
    assert ran.status == 0
    assert f"Trial {name_in(ran.talk)}: 3 images, 2 variants." in ran.talk
    assert "1 detail low: 3 questions to vision (" in ran.talk
    assert re.search(r"All together: 6 questions, at most [\d,]+ tokens: \S+ to \S+ USD, at most \S+ USD\.", ran.talk)
    assert "notes.txt: not an image" in ran.talk
    answer = f"You asked: {asked}"
    assert ran.lines[:6] == [
        [f"{colour}.PNG", f"detail {detail}", answer] for colour in sorted(COLOURS) for detail in ("low", "high")
    ]
    (low, high) = ran.lines[6:]
    assert (low[:4], high[:4]) == (["1", "detail low", "3 of 3", "0"], ["2", "detail high", "3 of 3", "0"])
    assert float(low[4]) < float(high[4])  # tokens that were paid
    assert {one.pictures[0].detail for one in tester.asked(asked)} == {"low", "high"}
    sent = {sha256((folder / f"{colour}.PNG").read_bytes()).hexdigest() for colour in COLOURS}
    there = [name async for name in trials(tester).list_blob_names(name_starts_with="images/")]
    assert sent <= {name[len("images/") : -len(".png")] for name in there if name.endswith(".png")}


async def test_the_same_question_about_the_same_image_costs_nothing(tester: Person, folder: Path) -> None:
    asked = question()
    first = await attempt(tester, str(folder), "-i", asked, "--detail", "low,high", "--yes")
    for colour in COLOURS:  # by another name it is the same image
        (folder / f"{colour}.PNG").rename(folder / f"the {colour} one.png")
    sent = len(tester.asked(asked))
    again = await attempt(tester, str(folder), "-i", asked, "--detail", "low,high", "--yes")
    assert "All questions are answered already: nothing is sent" in again.talk
    assert name_in(again.talk) == name_in(first.talk)
    one_more = await attempt(tester, str(folder), "-i", asked, "--detail", "low,high,auto", "--yes")
    assert "6 questions are answered already." in one_more.talk
    assert "1 detail low: nothing, it is answered" in one_more.talk
    assert (sent, len(tester.asked(asked))) == (6, 9)


async def test_the_fields_of_structured_answers_are_compared(tester: Person, folder: Path, tmp_path: Path) -> None:
    schema = tmp_path / "receipt.schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")

    def reading(asked: Asked) -> Behaviour:
        total = 12.5 if asked.pictures[0].detail == "high" else 12.0
        return Answer(json.dumps({"shop": "Café", "total": total}))

    tester.cloud.model.script.policy = reading
    arguments = (str(folder), "--schema", str(schema), "--detail", "low,high", "--model", "gpt-5.4-mini", "--yes")
    ran = await attempt(tester, *arguments)
    assert ran.lines[:2] == [
        ["blue.PNG", "detail low", '{"shop":"Café","total":12.0}'],
        ["blue.PNG", "detail high", '{"shop":"Café","total":12.5}'],
    ]
    assert "Fields that differ, of 3 images: total in 3." in ran.talk
    assert float(ran.lines[6][6]) < float(ran.lines[7][6])  # dollars for 1,000
    report = (await attempt(tester, *arguments, "--json")).json()
    assert [image["differing_fields"] for image in report["images"]] == [["total"]] * 3
    assert [answer["data"]["total"] for answer in report["images"][0]["answers"]] == [12.0, 12.5]
    low, high = report["variants"]
    assert (low["label"], low["answered"], low["failed"], low["options"]["schema"]) == ("detail low", 3, {}, SCHEMA)
    assert 0 < low["usd_per_1000"] < high["usd_per_1000"]
    assert 0 < low["median_ms"] <= low["p90_ms"]
    assert (report["asked"]["questions"], report["problems"]) == (0, [])


async def test_failures_are_shown_and_asked_again_only_if_they_say_nothing_about_the_question(
    tester: Person, folder: Path
) -> None:
    asked = question()
    tester.scripts[asked].extend([Refusal()] * 4)
    ran = await attempt(tester, str(folder / "teal.PNG"), "-i", asked, "--yes")
    assert ran.status == 0
    assert ran.lines[0][2].startswith("failed: model_refused: ")
    assert "1 default: 1 failed (model_refused 1)" in ran.talk
    sent = len(tester.asked(asked))
    again = await attempt(tester, str(folder / "teal.PNG"), "-i", asked, "--yes")
    assert (again.lines[0][2], len(tester.asked(asked))) == (ran.lines[0][2], sent)
    # A crash is not the question's fault.
    report = (await attempt(tester, str(folder / "teal.PNG"), "-i", asked, "--yes", "--json")).json()
    (image,), (variant,) = report["images"], report["variants"]
    crashed = failed(image["blob"], "crashed")
    blob = trials(tester).get_blob_client(result_name(f"answers/{variant['id']}/{image['container']}/{image['blob']}"))
    metadata = (await blob.get_blob_properties()).metadata
    await blob.upload_blob(crashed.to_json(), overwrite=True, metadata=metadata | {"errorcode": "crashed"})
    tester.scripts[asked].clear()
    ran = await attempt(tester, str(folder / "teal.PNG"), "-i", asked, "--yes")
    assert ran.lines[0][2] == f"You asked: {asked}"


async def test_images_already_uploaded_are_tried_where_they_are(tester: Person) -> None:
    asked, folder = question(), f"try-{uuid4().hex[:8]}/"
    for number in range(3):
        await tester.drop(f"{folder}{number} ä#%.png", picture(), {"instructions": "Something else"})
    arguments = ("--in-container", folder, "-i", asked, "--sample", "2", "--yes")
    ran = await attempt(tester, *arguments)
    assert ran.status == 0
    assert "2 images of 3, 1 variant." in ran.talk
    assert [line[2] for line in ran.lines[:2]] == [f"You asked: {asked}"] * 2
    assert (await attempt(tester, *arguments)).lines[:2] == ran.lines[:2]  # the same sample
    assert len(tester.asked(asked)) == 2
    assert (await tester.result(f"{folder}0 ä#%.png"))["answer"]["text"] == "You asked: Something else"
    nothing = await attempt(tester, "--in-container", "nothing/", "-i", asked, "--yes")
    assert (nothing.status, "There is nothing to try: no image in 'images'" in nothing.talk) == (3, True)


async def test_what_the_app_does_not_allow_is_said_before_anything_is_sent(tester: Person, folder: Path) -> None:
    asked = question()
    ran = await attempt(tester, str(folder), "-i", asked, "--deployment", "vision,unheard-of", "--yes", "--json")
    assert ran.status == 3
    message = ran.json()["error"]["message"]
    assert "'deployment' is 'unheard-of'" in message
    assert "ALLOWED_DEPLOYMENTS" in message
    sent = {sha256((folder / f"{colour}.PNG").read_bytes()).hexdigest() for colour in COLOURS}
    assert not [name async for name in trials(tester).list_blob_names() if any(digest in name for digest in sent)]
    assert tester.asked(asked) == []
    elsewhere = await attempt(tester, str(folder), "-i", asked, "--yes", "--trials", "not-there")
    assert elsewhere.status == 3
    assert "no container 'not-there' for trials" in elsewhere.talk
    assert "make up" in elsewhere.talk


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (None, "has not noted yet what it allows"),
        ({"pipeline_version": "0.1.0"}, "The app (0.1.0) is older than this program"),
        ({"asking": {"trials": "elsewhere"}}, "name it with --trials"),
        ({"asking": {"requests_may_ask": False}}, "REQUESTS_MAY_ASK is false"),
        (
            {"asking": {"details": ["low"]}},
            "'detail' is 'high': here it may be low (the operator's setting ALLOWED_DET",
        ),
    ],
)
async def test_the_note_of_the_app_decides(
    tester: Person, folder: Path, note: dict[str, Any] | None, said: str
) -> None:
    state = tester.blobs.get_container_client(f"try-{uuid4().hex[:8]}")
    await state.create_container()
    asking = {
        "trials": "trials",
        "requests_may_ask": True,
        "deployment": "vision",
        "deployments": ["vision"],
        "tiers": ["default"],
    }
    if note is not None:
        whole = note | {"asking": asking | note["asking"]} if "asking" in note else note
        await state.upload_blob("readiness.json", json.dumps(whole))
    ran = await attempt(tester, str(folder), "--detail", "high", "--yes", "--state", state.container_name)
    await state.delete_container()
    assert ran.status == 3
    assert said in ran.talk


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("/pipeline-state/readiness.json", "'Storage Blob Data Reader' on the container 'pipeline-state'"),
        ("/trials", "You may not use the container 'trials': trials take the role 'Storage Blob Data Contributor'"),
        ("/analysis-requests/messages", "'Storage Queue Data Message Sender'"),
    ],
)
async def test_a_missing_role_is_named(tester: Person, folder: Path, closed: str, said: str) -> None:
    asked = question()
    async with guarded(tester, lambda _method, path: closed in path) as account:
        ran = await blobsight(None, "try", str(folder), "-i", asked, "--yes", "--connection-string", account)
    assert ran.status == 3
    assert said in ran.talk
    assert tester.asked(asked) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
async def test_a_run_that_is_stopped_goes_on_where_it_was(tester: Person, folder: Path, stop: signal.Signals) -> None:
    """While the model works: the app goes on, and the same command only waits."""
    asked = question()
    tester.scripts[asked].extend([Slow(1.5)] * len(COLOURS))
    process = await started(tester, "try", str(folder), "-i", asked, "--yes")
    async with asyncio.timeout(60):
        while not tester.asked(asked):
            await asyncio.sleep(0.05)
    process.send_signal(stop)
    _, talk = await process.communicate()
    if stop is signal.SIGINT:
        assert process.returncode == 130
        assert "3 questions had no answer yet." in talk.decode()
        assert "the same command waits for it and asks the rest, and pays nothing twice." in talk.decode()
    ran = await attempt(tester, str(folder), "-i", asked, "--yes")
    assert [line[2] for line in ran.lines[:3]] == [f"You asked: {asked}"] * 3
    assert len(tester.asked(asked)) == 3


async def test_many_answers_are_listed_and_images_that_change_are_not_waited_for(
    tester: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, folder = question(), f"try-{uuid4().hex[:8]}/"
    for number in range(2):
        await tester.drop(f"{folder}{number}.png", picture(), {"instructions": "Something else"})
    ran = await attempt(tester, "--in-container", folder, "-i", asked, "--detail", "low,high", "--yes")
    monkeypatch.setattr(asking, "CHANGE_SECONDS", 0)
    place = Place(
        account=None,
        connection_string=tester.cloud.front.connection_string,
        queue_endpoint=None,
        images="images",
        results="results",
        state="pipeline-state",
        requests="analysis-requests",
    )
    problems: list[Any] = []
    async with place.opened() as account:
        trial = await read_trial(account, name_in(ran.talk))
        etags = await asking.etags_there(account, trial)
        monkeypatch.setattr(asking, "ASKED_ONE_BY_ONE", 0)
        assert await asking.unanswered(account, trial, etags) == []
        changed = etags | {f"{folder}1.png": "0x0"}
        left = await asking.unanswered(account, trial, changed)
        monkeypatch.setattr(asking, "ASKED_ONE_BY_ONE", 100)
        assert [(one.variant.label, one.image.name) for one in left] == [
            ("detail low", f"{folder}1.png"),
            ("detail high", f"{folder}1.png"),
        ]
        await asking.follow(account, trial, left, problems)
    assert [problem.name for problem in problems] == [f"{folder}1.png"]
    assert "replaced or deleted meanwhile" in problems[0].why.reason


@pytest.mark.parametrize("command", ["try", "evaluate"])
async def test_at_a_terminal_the_person_decides(command: str, tester: Person, folder: Path, tmp_path: Path) -> None:
    asked = question()
    (tmp_path / "teal.png").write_bytes((folder / "teal.PNG").read_bytes())
    (tmp_path / "teal.png.expected.json").write_text('{"colour": "teal"}')
    terminal, stdin = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "blobsight", command, str(tmp_path), "-i", asked, "--json"),
        *("--connection-string", tester.cloud.front.connection_string),
        stdin=stdin, stdout=PIPE, stderr=PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    said = await process.stderr.readuntil(b"Ask them? [y/N]")
    os.write(terminal, b"n\n")
    out, talk = await process.communicate()
    os.close(terminal)
    os.close(stdin)
    assert (process.returncode, json.loads(out)["trial"]) == (0, None)
    assert "Nothing was asked." in talk.decode()
    assert tester.asked(asked) == []
    assert name_in(said.decode()) not in (await attempt(tester, "list")).out


async def test_trials_are_listed_shown_and_removed(tester: Person, folder: Path) -> None:
    asked = question()
    teal = str(folder / "teal.PNG")
    whole = name_in((await attempt(tester, str(folder), "-i", asked, "--detail", "low,high", "--yes")).talk)
    part = name_in((await attempt(tester, teal, "-i", asked, "--detail", "low", "--yes")).talk)
    sent = len(tester.asked(asked))
    listed = {line[0]: line[2:] for line in (await attempt(tester, "list")).lines}
    assert (listed[whole], listed[part]) == (["3", "2", "6 of 6"], ["1", "1", "1 of 1"])
    shown = await attempt(tester, "show", whole)
    assert (shown.status, len(shown.lines)) == (0, 8)
    assert len(tester.asked(asked)) == sent == 6

    unsaid = await attempt(tester, "remove", whole)
    assert (unsaid.status, "give --yes" in unsaid.talk) == (2, True)
    assert (await attempt(tester, "remove", whole, "--yes")).status == 0
    assert (await attempt(tester, "show", whole)).status == 3
    kept = await attempt(tester, "show", part)  # its image and answer were the other's, too
    assert kept.lines[0] == ["teal.PNG", "detail low", f"You asked: {asked}"]
    digest = sha256((folder / "red.PNG").read_bytes()).hexdigest()
    assert not [name async for name in trials(tester).list_blob_names() if digest in name]
    assert (await attempt(tester, "remove", part, "--yes")).status == 0


async def test_a_variant_becomes_a_folders_instructions(tester: Person, folder: Path, tmp_path: Path) -> None:
    asked = question()
    name = name_in((await attempt(tester, str(folder / "teal.PNG"), "-i", asked, "--detail", "low,high", "--yes")).talk)
    target = tmp_path / "target"
    target.mkdir()
    which = await attempt(tester, "promote", name, str(target))
    assert (which.status, "Which variant? Give --variant" in which.talk) == (3, True)
    done = await attempt(tester, "promote", name, "--variant", "2", str(target))
    assert (done.status, done.out) == (0, f"{target / '_instructions.md'}\n")
    parsed = parse_file("_instructions.md", (target / "_instructions.md").read_bytes())
    assert (parsed.text, parsed.options.detail) == (asked, "high")
    kept = await attempt(tester, "promote", name, "--variant", "detail low", str(target))
    assert (kept.status, "give --yes to replace it" in kept.talk) == (3, True)
    assert (await attempt(tester, "promote", name, "--variant", "detail low", str(target), "--yes")).status == 0
    assert 'detail: "low"' in (target / "_instructions.md").read_text(encoding="utf-8")
    (target / "_instructions.json").write_text("{}", encoding="utf-8")
    beside = await attempt(tester, "promote", name, "--variant", "1", str(target), "--yes")
    assert (beside.status, "has _instructions.json" in beside.talk) == (3, True)

    # In the container it is what the next image is asked.
    prefix = f"try-{uuid4().hex[:8]}"
    done = await attempt(tester, "promote", name, "--variant", "1", "--in-container", prefix)
    assert done.out == f"images/{prefix}/_instructions.md\n"
    twice = await attempt(tester, "promote", name, "--variant", "2", "--in-container", prefix)
    assert (twice.status, "give --yes to replace it" in twice.talk) == (3, True)
    await tester.drop(f"{prefix}/new.png", picture())
    result = await tester.result(f"{prefix}/new.png")
    assert (result["instructions"]["text"], result["image_sent"]["detail"]) == (asked, "low")


async def test_the_same_command_mends_a_record(tester: Person, folder: Path) -> None:
    asked = question()
    name = name_in((await attempt(tester, str(folder), "-i", asked, "--yes")).talk)
    record = trials(tester).get_blob_client(f"runs/{name}.json")
    whole = json.loads(await (await record.download_blob()).readall())
    older = whole | {"images": [image | {"etag": "0x1"} for image in whole["images"]]}
    for broken in (json.dumps(older), "{}", ""):
        await record.upload_blob(broken, overwrite=True)
        assert (await attempt(tester, str(folder), "-i", asked, "--yes")).status == 0
        shown = await attempt(tester, "show", name)
        assert [line[2] for line in shown.lines[:3]] == [f"You asked: {asked}"] * 3
    assert len(tester.asked(asked)) == 3


async def test_two_people_who_try_the_same_pay_once(tester: Person, folder: Path) -> None:
    asked = question()
    tester.scripts[asked].extend([Slow(1)] * len(COLOURS))
    runs = await asyncio.gather(*(attempt(tester, str(folder), "-i", asked, "--yes", "--json") for _ in range(2)))
    one, other = (ran.json() for ran in runs)
    assert [ran.status for ran in runs] == [0, 0]
    assert one["images"] == other["images"]
    assert len(tester.asked(asked)) == 3


async def test_a_strangers_record_shows_as_text_and_stops_no_other(tester: Person, folder: Path) -> None:
    asked = question()
    name = name_in((await attempt(tester, str(folder), "-i", asked, "--yes")).talk)
    record = json.loads(await (await trials(tester).download_blob(f"runs/{name}.json")).readall())
    hostile = {"label": "[/b]\x1b[2J\n\u202e", "instructions": "\x1b[2J", "options": {"detail": "low"}}
    image = {"name": "\x1b[2J\n[/b]", "container": "pipeline-state", "blob": "readiness.json", "etag": "0x1"}
    forged = {
        "forged": record | {"name": "forged", "variants": [hostile, *record["variants"]], "images": [image]},
        "many": record | {"name": "many", "images": [image] * 30_000},
        "deep": {"name": "deep", "images": json.loads("[" * 200 + "]" * 200)},
        "other": record,
    }
    runs = [f"runs/{called}.json" for called in forged]
    for blob, value in zip(runs, forged.values(), strict=True):
        await trials(tester).upload_blob(blob, json.dumps(value))
    await trials(tester).upload_blob("runs/nested.json", b"[" * 200_000)
    try:
        listed = await attempt(tester, "list", "--json")
        found = listed.json()
        assert {"forged", name} <= {trial["name"] for trial in found["trials"]}
        assert [problem["name"] for problem in found["problems"]] == [
            "runs/deep.json",
            "runs/many.json",
            "runs/nested.json",
            "runs/other.json",
        ]
        shown = await attempt(tester, "show", "forged")
        assert shown.lines[0][0] == "\\x1b[2J\\n[/b]"
        assert (await attempt(tester, "show", "forged", "--json")).json()["images"][0]["blob"] == "readiness.json"
        removed = await attempt(tester, "remove", name, "--yes")
        assert (removed.status, "Nothing was removed" in removed.talk) == (3, True)
    finally:
        for blob in [*runs, "runs/nested.json"]:
            await trials(tester).delete_blob(blob)
