"""`blobsight upload`: files into the container, each once, also when interrupted."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import pytest
from azure.storage.blob import BlobBlock, ContentSettings
from hypothesis import given
from hypothesis import strategies as st
from support.guarded_storage import guarded
from support.person import Person
from support.pictures import picture
from support.terminal import blobsight, started

from blobsight.asking import Asked
from blobsight.local_files import is_online_only, name_in_list
from localcloud.model import Hang
from pipeline.instructions import InstructionSources, Origin
from pipeline.instructions.options import Options
from pipeline.instructions.plain_text import visible_text

UNREADABLE = "it can't be read (Input/output error)" if Path("/proc/self/mem").exists() else "it does not exist"

type Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes a folder of files: pictures that all differ, or what is said."""

    def make(*names: str, **contents: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture() + number.to_bytes(4))
        for name, text in contents.items():
            (tmp_path / name.replace("__", ".")).write_text(text, encoding="utf-8")
        return tmp_path

    return make


async def etags(person: Person, prefix: str) -> dict[str, str]:
    container = person.blobs.get_container_client("images")
    return {blob.name: blob.etag async for blob in container.list_blobs(name_starts_with=prefix)}


async def test_a_second_run_sends_only_what_is_missing_or_changed(person: Person, folder: Folder) -> None:
    path = folder("a.png", "b/c.png", "b/d.png")
    arguments = ("upload", str(path), "--prefix", "again/", "-i", "What is it?")
    first = await blobsight(person, *arguments, "--json")
    assert first.status == 0
    assert first.json() == {
        "sent": 3,
        "unchanged": 0,
        "left_out": 0,
        "failed": 0,
        "sent_bytes": 3 * (len(picture()) + 4),
        "would_be_sent": [],
        "problems": [],
        "dry_run": False,
        "results": None,
    }
    before = await etags(person, "again/")
    assert set(before) == {"again/a.png", "again/b/c.png", "again/b/d.png"}
    (path / "b" / "c.png").write_bytes(picture() + b"else")
    folder("e.png")
    second = await blobsight(person, *arguments)
    assert second.talk.splitlines()[-1].startswith("2 sent (")
    after = await etags(person, "again/")
    assert {name for name in after if after[name] != before.get(name)} == {"again/b/c.png", "again/e.png"}


async def test_another_question_uploads_a_file_again(person: Person, folder: Folder) -> None:
    path = folder("a.png")
    for question, sent in (("One?", 1), ("One?", 0), ("Zwei, größer?", 1), ("Zwei, größer?", 0)):
        ran = await blobsight(person, "upload", str(path), "--prefix", "questions/", "-i", question, "--json")
        assert ran.json()["sent"] == sent, question
    result = await person.result(
        "questions/a.png", etag=(await etags(person, "questions/"))["questions/a.png"].strip('"')
    )
    assert result["instructions"]["text"] == "Zwei, größer?"


async def test_instruction_files_of_a_folder_are_there_before_its_images(person: Person, folder: Folder) -> None:
    path = folder("in/a.png", "in/b.png")
    (path / "in" / "_instructions.md").write_text("---\ndetail: low\n---\nAsked by the folder", encoding="utf-8")
    (path / "in" / "b.png.instructions.txt").write_text("Asked by a sidecar", encoding="utf-8")
    ran = await blobsight(person, "upload", str(path), "--prefix", "folders/", "--wait")
    assert ran.status == 0
    assert sorted(ran.lines) == [
        ["folders/in/a.png", "You asked: Asked by the folder"],
        ["folders/in/b.png", "You asked: Asked by a sidecar"],
    ]
    assert (await person.result("folders/in/a.png"))["image_sent"]["detail"] == "low"


async def test_waiting_ends_with_what_came_of_each_image(person: Person, folder: Folder) -> None:
    path = folder("good.png", "cut.png")
    (path / "cut.png").write_bytes(picture()[:60])
    ran = await blobsight(person, "upload", str(path), "--prefix", "wait/", "-i", "Well?", "--wait")
    rows = dict(ran.lines)
    assert (ran.status, rows["wait/good.png"]) == (1, "You asked: Well?")
    assert rows["wait/cut.png"].startswith("corrupt_image: ")
    assert ran.talk.splitlines()[-1] == "1 succeeded, 1 failed (1 corrupt_image)."


async def test_other_files_are_left_out_and_unreadable_ones_listed(person: Person, folder: Folder) -> None:
    path = folder("a.png", "sub/b.png", notes__docx="PK\x03\x04", empty__png="", page__jpg="<html>")
    (path / ".DS_Store").write_bytes(b"junk")
    (path / ".hidden.png").write_bytes(picture())
    (path / "sub" / "back").symlink_to(path)
    (path / "dangling.png").symlink_to(path / "nowhere")
    (path / "broken.png").symlink_to("/proc/self/mem")  # on Linux, a regular file that fails when it is read
    os.mkfifo(path / "pipe.png")
    ran = await blobsight(person, "upload", str(path), "--prefix", "odd/", "--follow-links", "--json")
    assert ran.status == 1
    assert ran.json()["sent"] == 2
    problems = {
        Path(problem["path"]).name: (problem["failed"], problem["reason"]) for problem in ran.json()["problems"]
    }
    assert problems == {
        ".DS_Store": (False, "junk"),
        ".hidden.png": (False, "hidden"),
        "back": (False, "a link to a folder that is included already"),
        "notes.docx": (False, "not an image: it seems to be a ZIP archive"),
        "page.jpg": (False, "not an image: it seems to be an HTML page"),
        "empty.png": (True, "it is empty: save it again, or download it where a cloud service holds it"),
        "dangling.png": (True, "it does not exist"),
        "broken.png": (True, UNREADABLE),
        "pipe.png": (True, "it is not a regular file"),
    }


@pytest.mark.parametrize("many", [False, True], ids=["asked", "listed"])
async def test_a_made_up_md5_hides_no_change(person: Person, folder: Folder, *, many: bool) -> None:
    """Another uploader has put something else there, of the same size, and stated the MD5 of what the caller has."""
    prefix = f"forged-{many}/"
    path = folder("a.png", *(f"{number}.png" for number in range(101 * many)), _instructions__md="What is it?")
    for name in ("a.png", "_instructions.md"):
        ours = (path / name).read_bytes()
        theirs = ours[:-1] + bytes([ours[-1] ^ 1])
        md5 = ContentSettings(content_md5=bytearray(hashlib.md5(ours, usedforsecurity=False).digest()))
        blob = person.blobs.get_blob_client("images", prefix + name)
        await blob.stage_block("1", theirs)
        await blob.commit_block_list([BlobBlock("1")], content_settings=md5)
    await person.result(f"{prefix}a.png", etag=(await etags(person, prefix))[f"{prefix}a.png"].strip('"'))
    ran = await blobsight(person, "upload", str(path), "--prefix", prefix)
    assert (ran.status, " 0 unchanged" in ran.talk) == (0, True)
    for name in ("a.png", "_instructions.md"):
        blob = person.blobs.get_blob_client("images", prefix + name)
        assert await (await blob.download_blob()).readall() == (path / name).read_bytes()
    await person.result(f"{prefix}a.png", etag=(await etags(person, prefix))[f"{prefix}a.png"].strip('"'))
    again = await blobsight(person, "upload", str(path), "--prefix", prefix)
    assert again.talk.startswith("0 sent (0 bytes), ")


async def test_without_the_right_to_read_results_md5s_have_to_do(person: Person, folder: Folder) -> None:
    """As it is for those who may only upload; the command says so, once."""
    path = str(folder("a.png", "b.png"))
    async with guarded(person, lambda _method, path: "/results" in path) as account:
        arguments = ("upload", path, "--prefix", "blind/", "--connection-string", account)
        assert "compared" not in (await blobsight(None, *arguments)).talk
        ran = await blobsight(None, *arguments)
    assert (ran.status, "2 unchanged" in ran.talk, ran.talk.count("by size and MD5 alone")) == (0, True, 1)


async def test_a_strangers_folder_uploads_nothing_from_elsewhere(
    person: Person, folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A photo, a folder of photos, a question: each a link to the caller's own."""
    mine = tmp_path_factory.mktemp("mine")
    (mine / "passport.png").write_bytes(picture())
    (mine / "key.txt").write_text("my secret")
    path = folder("a.png")
    (path / "b.png").symlink_to(mine / "passport.png")
    (path / "album").symlink_to(mine)
    (path / "a.png.instructions.txt").symlink_to(mine / "key.txt")
    ran = await blobsight(person, "upload", str(path), "--prefix", "stranger/", "--wait")
    assert (ran.status, set(await etags(person, "stranger/"))) == (1, {"stranger/a.png"})
    assert ran.talk.count("it is a link out of") == 3
    assert person.asked("my secret") == []
    asked_for = await blobsight(person, "upload", str(path), "--prefix", "stranger/", "--follow-links")
    assert asked_for.status == 0
    assert {"stranger/b.png", "stranger/album/passport.png"} < set(await etags(person, "stranger/"))


async def test_a_list_of_files_from_windows_is_read(person: Person, folder: Folder) -> None:
    path = folder("a.png", "b\u2028c.png")
    listed = f"\ufeff{path}/a.png\r\n{path}/b\u2028c.png\r\n\r\n"
    ran = await blobsight(person, "upload", "-", "--dry-run", stdin=listed)
    assert (ran.status, len(ran.lines)) == (0, 2)


async def test_junk_of_a_nas_and_others_is_left_out_and_counted(person: Person, folder: Folder) -> None:
    path = folder("trip/IMG_1.jpg", *(f"trip/@eaDir/IMG_1.jpg/SYNOFILE_THUMB_{size}.jpg" for size in ("SM", "M", "XL")))
    folder(
        "#recycle/old.jpg", "trip/.@__thumb/IMG_1.jpg", "trip/half.jpg.crdownload", "trip/.DS_Store", "trip/Thumbs.db"
    )
    locked = path / "lost+found"
    locked.mkdir(mode=0)
    ran = await blobsight(person, "upload", str(path), "--prefix", "nas-upload/")
    locked.rmdir()
    assert (ran.status, ran.talk.splitlines()[:-1]) == (
        0,
        ["8 junk files left out: @eaDir (3), #recycle, .@__thumb, .DS_Store, Thumbs.db, …"],
    )
    assert ran.talk.splitlines()[-1].endswith("0 unchanged, 8 left out, 0 failed.")
    assert set(await etags(person, "nas-upload/")) == {"nas-upload/trip/IMG_1.jpg"}
    output = (await blobsight(person, "upload", str(path), "--prefix", "nas-upload/", "--json")).json()
    assert {Path(one["path"]).name: (one["reason"], one["files"]) for one in output["problems"]}["@eaDir"] == (
        "junk",
        3,
    )


async def test_expected_answers_stay_on_this_machine(person: Person, folder: Folder) -> None:
    path = folder("a.png", "b.png", **{"a.png.expected__json": '{"total": 1}', "b.png.expected__json": '{"total": 2}'})
    ran = await blobsight(person, "upload", str(path), "--prefix", "evaluated-folder/")
    assert (ran.status, ran.talk.splitlines()[:-1]) == (
        0,
        ["2 files with expected answers left out: `blobsight evaluate` reads them here"],
    )
    assert set(await etags(person, "evaluated-folder/")) == {"evaluated-folder/a.png", "evaluated-folder/b.png"}


async def test_photos_that_are_only_in_a_cloud_are_named_with_what_to_do(person: Person, folder: Folder) -> None:
    path = folder(".IMG_1.HEIC.icloud", ".IMG_2.HEIC.icloud", ".IMG_3.jpg.icloud", ".notes.pages.icloud")
    ran = await blobsight(person, "upload", str(path), "--prefix", "cloud/")
    assert ran.status == 1
    assert "3 photos are in iCloud only: download them first (" in ran.talk
    assert ran.talk.splitlines()[-1] == "0 sent (0 bytes), 0 unchanged, 1 left out, 3 failed."
    folder("a.png.nextcloud", "._instructions.md.icloud")
    (path / ".IMG_1.HEIC.icloud").unlink()
    ran = await blobsight(person, "upload", str(path), "--prefix", "cloud/")
    assert "3 files are in iCloud only" in ran.talk
    assert "1 photo is in Nextcloud only: download it first" in ran.talk


async def test_near_misses_of_instruction_files_are_sent_under_the_right_names(person: Person, folder: Folder) -> None:
    path = folder("a.png", "b.jpg", "C.PNG", "d.png", "in/e.png", "in/instructions.png", "in/Gro\u0308\u00dfe.png")
    files = {
        "_Instructions.TXT": "Asked by the folder",
        "a.png.Instructions.txt": "Asked in capitals",
        "b.instructions.txt": "Asked by the stem",
        "c.png.instructions.txt.txt": "Asked twice over",
        "d_instructions.md": "Asked with an underscore",
        "in/Gr\u00f6\u00dfe.png.instructions.md": "Asked in another form",
        "in/.instructions.md": "Asked by a hidden file",
    }
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    ran = await blobsight(person, "upload", str(path), "--prefix", "missed/", "--wait")
    assert ran.status == 0, ran.talk
    assert dict(ran.lines) == {
        "missed/a.png": "You asked: Asked in capitals",
        "missed/b.jpg": "You asked: Asked by the stem",
        "missed/C.PNG": "You asked: Asked twice over",
        "missed/d.png": "You asked: Asked with an underscore",
        "missed/in/e.png": "You asked: Asked by a hidden file",
        "missed/in/instructions.png": "You asked: Asked by a hidden file",
        "missed/in/Gro\u0308\u00dfe.png": "You asked: Asked in another form",
    }
    assert f"{path}/b.instructions.txt is sent as 'b.jpg.instructions.txt', the name that counts." in ran.talk
    again = await blobsight(person, "upload", str(path), "--prefix", "missed/", "--json")
    assert (again.json()["sent"], again.json()["unchanged"]) == (0, 14)


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["upload", "dry run"])
async def test_a_malformed_instruction_file_is_named_before_anything_is_sent(
    person: Person, folder: Folder, options: tuple[str, ...]
) -> None:
    path = folder("a.png", _instructions__md="---\n!!set {detail, schema}\n---\nx")
    ran = await blobsight(person, "upload", str(path), "--prefix", "malformed/", *options)
    assert ran.status == 3
    assert f"{path}/_instructions.md: line 2: the options use a YAML tag (!!set)" in ran.talk
    assert "Nothing was sent: correct 1 instruction file first, as listed above." in ran.talk
    assert await etags(person, "malformed/") == {}
    file = ("upload", str(path / "a.png"), "--instructions-file", str(path / "_instructions.md"))
    ran = await blobsight(person, *file, *options)
    assert (ran.status, "line 2: the options use a YAML tag" in ran.talk) == (2, True)
    assert "Traceback" not in ran.talk


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["instructions.txt"], "call it '_instructions.txt' if it says what to ask about the images of its folder"),
        (["Instructions.md"], "call it '_instructions.md'"),
        (["_instructions.docx"], "is not plain text: save its text as '_instructions.txt'"),
        (["a.png.instructions.rtf"], "save its text as 'a.png.instructions.txt'"),
        (["b.instructions.txt"], "call it 'b.jpg.instructions.txt' or 'b.png.instructions.txt'"),
        (
            ["_Instructions.txt", "_instructions.txt.txt"],
            "both nearly have the name '_instructions.txt': keep one of them",
        ),
    ],
)
async def test_nothing_is_sent_before_a_problem_with_the_question_is_settled(
    person: Person, folder: Folder, files: list[str], said: str
) -> None:
    path = folder("a.png", "b.png", "b.jpg")
    for name in files:
        (path / name).write_text("What is it?", encoding="utf-8")
    ran = await blobsight(person, "upload", str(path), "--prefix", "doubt/")
    assert ran.status == 3
    assert said in ran.talk
    assert ran.talk.splitlines()[-1].startswith("error: Nothing was sent: ")
    assert await etags(person, "doubt/") == {}
    ran = await blobsight(person, "upload", str(path), "--prefix", f"settled/{files[0]}/", "-i", "Which one?")
    assert ran.status == 0, "files do not count then"
    assert {f"settled/{files[0]}/a.png"} <= set(await etags(person, f"settled/{files[0]}/"))


async def test_other_texts_and_files_for_images_elsewhere_do_not_stop_an_upload(person: Person, folder: Folder) -> None:
    path = folder("a.png", "manual/b.jpeg")
    texts = ("_instructions.txt", "_Instructions.md.txt", "instructions.txt", "cleaning instructions.txt", "how to.md")
    for name in ("a.png.instructions.md", *texts):
        (path / name).write_text("What is it?", encoding="utf-8")
    (path / "manual" / "b.jpg.instructions.txt").write_text("What is it?", encoding="utf-8")
    (path / "manual" / "c.instructions.txt").write_text("What is it?", encoding="utf-8")
    ran = await blobsight(person, "upload", str(path), "--prefix", "others/")
    assert ran.status == 0, ran.talk
    for name in ("b.jpg", "c"):
        assert f"'others/manual/{name}.instructions.txt' belongs to none of these images" in ran.talk
    assert "6 sent (" in ran.talk, "among them the two, which may belong to images that are there already"


@pytest.mark.parametrize(
    ("facts", "is_online"),
    [
        ({"st_mode": 0o100644}, False),
        ({"st_file_attributes": 0x20}, False),
        ({"st_file_attributes": 0x20 | 0x400000}, True),  # OneDrive, Dropbox: recall on data access
        ({"st_file_attributes": 0x1000}, True),
        ({"st_flags": 0x40000000}, True),  # macOS: dataless
    ],
)
def test_files_that_are_online_only_are_known_by_their_attributes(facts: dict[str, int], *, is_online: bool) -> None:
    assert is_online_only(SimpleNamespace(**facts)) is is_online


async def test_fewer_options_upload_a_file_again_too(person: Person, folder: Folder) -> None:
    path = folder("a.png")
    arguments = ("upload", str(path), "--prefix", "fewer/", "-i", "Fewer?", "--json")
    for options, sent in ((("--detail", "low"), 1), ((), 1), ((), 0)):
        assert (await blobsight(person, *arguments, *options)).json()["sent"] == sent


async def test_an_image_that_is_replaced_is_not_waited_for(person: Person, folder: Folder) -> None:
    person.scripts["Replaced?"].append(Hang())
    uploading = asyncio.create_task(
        blobsight(person, "upload", str(folder("a.png")), "--prefix", "replaced/", "-i", "Replaced?", "--wait")
    )
    while not person.asked("Replaced?"):
        await asyncio.sleep(0.05)
    await person.drop("replaced/a.png", picture(), {"instructions": "By another person"})
    ran = await uploading
    assert (ran.status, ran.out) == (0, "")
    assert "replaced/a.png has been replaced or deleted meanwhile" in ran.talk


async def test_any_file_name_is_uploaded_and_answered(person: Person, folder: Folder) -> None:
    long = "/".join(["x" * 200] * 5) + ".png"
    names = ["with space.png", "ümläut 漢字 😀.png", "100%.png", "%41.png", "a#b?c&d+e.png", "~'\"<>|*.png", long]
    path = folder(*names)
    ran = await blobsight(person, "upload", str(path), "--prefix", "names/", "--wait", "-i", "Named?")
    assert ran.status == 0, ran.talk
    assert {name for name, _ in ran.lines} == {f"names/{name}" for name in names}
    again = await blobsight(person, "upload", str(path), "--prefix", "names/", "-i", "Named?", "--json")
    assert (again.json()["sent"], again.json()["unchanged"]) == (0, len(names))


async def test_a_name_too_long_for_azure_is_one_files_error(person: Person, folder: Folder) -> None:
    path = folder("a.png", "/".join(["y" * 250] * 4) + "/z.png")
    ran = await blobsight(person, "upload", str(path), "--prefix", "p" * 30 + "/")
    assert ran.status == 1
    assert "its name would have 1,040 characters, and Azure allows 1,024: shorten it" in ran.talk
    assert "1 sent" in ran.talk


async def test_a_dry_run_shows_the_files_of_lists_and_globs(person: Person, folder: Folder) -> None:
    path = folder("one/a.png", "two/a.png", "two/b.txt.png")
    listed = "".join(f"{file}\n" for file in sorted(path.rglob("*.png")))
    ran = await blobsight(person, "upload", "-", "--prefix", "dry/", "--dry-run", stdin=listed)
    below = path.relative_to("/")
    assert [row[1] for row in ran.lines] == [
        f"dry/{below}/{name}" for name in ("one/a.png", "two/a.png", "two/b.txt.png")
    ]
    ran = await blobsight(person, "upload", str(path / "*" / "a.png"), "--prefix", "dry/", "--dry-run")
    assert [row[1] for row in ran.lines] == ["dry/one/a.png", "dry/two/a.png"]
    assert await etags(person, "dry/") == {}
    ran = await blobsight(person, "upload", *map(str, path.glob("*/a.png")), "--dry-run")
    assert ran.status == 1
    assert "its name would be 'a.png', like that of" in ran.talk


async def test_killed_in_the_middle_it_goes_on_where_it_stopped(person: Person, folder: Folder) -> None:
    """Nothing twice, nothing missing: also what had arrived without the killed run knowing."""
    path = folder(*(f"{number:03}.png" for number in range(300)))
    arguments = ("upload", str(path), "--prefix", "killed/", "-i", "Killed?")
    process = await started(person, *arguments)
    while len(await etags(person, "killed/")) < 40:
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    await asyncio.sleep(0.3)  # what was on the wire arrives
    there = await etags(person, "killed/")
    assert 40 <= len(there) < 300
    again = await blobsight(person, *arguments, "--json")
    assert (again.json()["sent"], again.json()["unchanged"]) == (300 - len(there), len(there))
    after = await etags(person, "killed/")
    assert len(after) == 300
    assert there.items() <= after.items()


async def test_two_runs_at_once_send_each_file_once(person: Person, folder: Folder) -> None:
    path = folder(*(f"{number:02}.png" for number in range(60)))
    arguments = ("upload", str(path), "--prefix", "both/", "-i", "At once?", "--wait", "--json")
    runs = await asyncio.gather(blobsight(person, *arguments), blobsight(person, *arguments))
    assert [run.status for run in runs] == [0, 0]
    assert sum(run.json()["sent"] for run in runs) == 60
    assert [run.json()["results"] for run in runs] == [{"succeeded": 60, "failed": {}}] * 2
    assert len(person.asked("At once?")) == 60


async def test_ctrl_c_says_how_far_the_upload_came(person: Person, folder: Folder) -> None:
    path = folder("a.png")
    person.scripts["Slow?"].append(Hang())
    process = await started(person, "upload", str(path), "--prefix", "stopped/", "-i", "Slow?", "--wait")
    while not person.asked("Slow?"):
        await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, talk = await process.communicate()
    assert process.returncode == 130
    assert talk.decode().splitlines() == [
        f"1 sent ({len(picture()) + 4} bytes), 0 unchanged, 0 left out, 0 failed.",
        "1 image had no result yet. The app goes on: see `blobsight status`.",
        "",  # behind the terminal's own ^C
        "Stopped.",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--images", "no-such-images"], 3, "has no container 'no-such-images'"),
        (["--account", "https://a.example/?sig=secret"], 2, "without a key or a SAS"),
        (["--connection-string", "secret"], 3, "That is not a storage connection string"),
        (["--connection-string", "BlobEndpoint=http://127.0.0.1:9/a;AccountName=a;AccountKey=YQ=="], 3, "make up"),
        (
            ["--connection-string", "AccountName=a;AccountKey=secret;BlobEndpoint=http://[x"],
            3,
            "not a storage connection string",
        ),
        (["--account", "https://a.example/#sig=secret"], 2, "without a key or a SAS"),
        (["-i", "x" * 9000], 2, "_instructions.md"),
        (["-i", "?", "--schema", "größe"], 2, "blob metadata is"),
    ],
    ids=["container", "SAS", "none", "no server there", "no address", "fragment", "too long", "not ASCII"],
)
async def test_an_error_is_one_clear_line(
    person: Person, folder: Folder, arguments: list[str], status: int, said: str
) -> None:
    named = person if arguments[0] in ("--images", "-i") else None
    ran = await blobsight(named, "upload", str(folder("a.png")), *arguments)
    assert (ran.status, "secret" in ran.talk) == (status, False), ran.talk
    assert said in ran.talk.splitlines()[-1]


async def test_upload_without_an_account_says_how_to_name_one(folder: Folder) -> None:
    ran = await blobsight(None, "upload", str(folder("a.png")))
    assert ran.status == 2
    assert "--account NAME for one in Azure, or --local" in ran.talk


class NoFiles:
    async def read_start(self, _name: str, _length: int) -> None:
        return None


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300))
async def test_any_text_arrives_as_it_was_meant(text: str) -> None:
    text = visible_text(text)
    metadata = Asked(text or None, Options()).metadata()
    assert all(value.isascii() and value.isprintable() for value in metadata.values())
    found = await InstructionSources(NoFiles(), None).find("a.png", metadata)
    assert (found.text, found.origin) == ((text, Origin.METADATA) if text else (found.text, Origin.BUILT_IN))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (PureWindowsPath(r"scans\2026\a.png"), "scans/2026/a.png"),
        (PureWindowsPath(r"C:\scans\a.png"), "scans/a.png"),
        (PureWindowsPath(r"\\server\share\scans\a.png"), "scans/a.png"),
        (PurePosixPath("/scans/a.png"), "scans/a.png"),
        (PurePosixPath("./scans//a.png"), "scans/a.png"),
        (PurePosixPath("../a.png"), None),
    ],
)
def test_paths_of_both_worlds_make_names_with_slashes(path: PurePath, name: str | None) -> None:
    assert name_in_list(path) == name
