"""Junk files are known by their names, and no plausible image is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.junk import has_image_ending, is_junk, placeholder_of
from pipeline.names import wants_result

JUNK = [
    ".DS_Store",
    "holiday/.ds_store",
    "Thumbs.db",
    "THUMBS.DB",
    "ehthumbs_vista.db",
    "x/desktop.ini",
    "x/._cat.jpg",
    "x/._",
    "Icon\r",
    "trip/@eaDir/IMG_1.HEIC/SYNOFILE_THUMB_M.jpg",
    "@eaDir/IMG_1.HEIC@SynoEAStream",
    "trip/IMG_1.HEIC@SynoResource",
    "SYNOPHOTO_THUMB_XL.jpg",
    "photo/#recycle/deleted.jpg",
    "#snapshot/GMT+01-2026.03.14-00.00.01/a.jpg",
    "@Recycle/a.jpg",
    "@Recently-Snapshot/x/a.jpg",
    "trip/.@__thumb/IMG_1.jpg",
    "@__thumb/s800IMG_1.jpg",
    ".@upload_cache/a.jpg",
    "trip/.webaxs_LL/IMG_1.jpg",
    "trip/.wdmc/IMG_1.jpg.1920.jpg",
    "DCIM/.thumbnails/12345.jpg",
    "DCIM/Camera/.trashed-1790000000-IMG_1.jpg",
    "DCIM/Camera/.pending-1790000000-IMG_1.jpg",
    "__MACOSX/trip/IMG_1.jpg",
    ".Spotlight-V100/Store-V2/a.jpg",
    ".Trashes/501/a.jpg",
    ".DocumentRevisions-V100/a.jpg",
    "$RECYCLE.BIN/S-1-5-21/$R123.jpg",
    "System Volume Information/a.jpg",
    "lost+found/#12345.jpg",
    "disk/.Trash-1000/files/a.jpg",
    "~$report.docx",
    "~WRL0001.tmp",
    ".~lock.table.ods#",
    ".#notes.txt",
    ".notes.txt.swp",
    ".syncthing.IMG_1.jpg.tmp",
    "~syncthing~IMG_1.jpg.tmp",
    ".stversions/IMG_1~20260314-120000.jpg",
    ".dropbox",
    ".dropbox.cache/2026-03-14/a.jpg",
    ".tmp.drivedownload/12345",
    ".sync/Archive/a.jpg",
    "IMG_1.jpg.!sync",
    ".sync_0123abcdef.db-wal",
    "IMG_1.jpg.crdownload",
    "Unconfirmed 123456.crdownload",
    "IMG_1.jpg.part",
    "IMG_1.jpg.partial",
    "IMG_1.jpg.0a1b2c3d.partial",
    "IMG_1.jpg.download",
    "IMG_1.jpg.download/IMG_1.jpg",
    "IMG_1.jpg.filepart",
    ".azDownload-7b6f-IMG_1.jpg",
    ".IMG_0001.HEIC.icloud",
    "IMG_1.jpg.nextcloud",
    "IMG_1.jpg.owncloud",
    "IMG_1.jpg.cloud",
    "Camera uploads.cloudf",
    "Photos.photoslibrary/resources/derivatives/A/A1_1_105_c.jpeg",
    "Catalog Previews.lrdata/0/00AB/00AB.lrprev",
    "site/.git/objects/ab/cdef",
]
NO_JUNK = [
    "cat.jpg",
    "x/.hidden.png",
    "Icon.png",
    "Icon",
    "thumbs.jpg",
    "thumbnails/cat.jpg",
    "Thumbs/cat.jpg",
    "recycle/cat.jpg",
    "Recycle Bin/cat.jpg",
    "#recycle.jpg",
    "@eaDir.jpg",
    "@eaDir",
    "eaDir/cat.jpg",
    "@home/cat.jpg",
    "#sunset/cat.jpg",
    "lost and found/wallet.jpg",
    "part/cat.jpg",
    "cat.part.jpg",
    "downloads/cat.jpg",
    "my.download/cat.jpg",
    "download.jpg",
    "cloud.jpg",
    "icloud/cat.jpg",
    "IMG_1.icloud.jpg",
    "photo.tmp",
    "tmp/cat.jpg",
    "~cat.jpg",
    "cat.jpg~",
    "$5 bill.jpg",
    "cat (conflicted copy 2026-03-14).jpg",
    "cat.sync-conflict-20260314-120000-ABCDEFG.jpg",
    "sync/cat.jpg",
    "git/cat.jpg",
    "Photos.photoslibrary/originals/A/A1.heic",
    "SYNOLOGY.jpg",
    ".../cat.jpg",
    "desktop.ini.png",
    "Thumbs.db.jpg",
]


@pytest.mark.parametrize("name", JUNK)
def test_junk_files_of_systems_and_tools_get_no_result(name: str) -> None:
    assert is_junk(name)
    assert not wants_result(name)
    assert is_junk(f"backup/{name}")


@pytest.mark.parametrize("name", NO_JUNK)
def test_plausible_image_names_get_a_result(name: str) -> None:
    assert not is_junk(name)
    assert wants_result(name)


letters = st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=12)
endings = st.sampled_from(["jpg", "JPEG", "png", "heic", "tif", "webp"])


@given(
    st.lists(letters, max_size=4), letters, st.sampled_from(["", "_", "-", "(", ")", "&", "#", "+", ",", "!"]), endings
)
def test_names_of_words_are_never_junk(folders: list[str], words: str, sign: str, ending: str) -> None:
    name = "/".join([*folders, f"{words}{sign}{words}.{ending}"])
    assert not is_junk(name)
    assert has_image_ending(name)


@pytest.mark.parametrize(
    ("leaf", "there"),
    [
        (".IMG_0001.HEIC.icloud", ("iCloud", "IMG_0001.HEIC")),
        ("._instructions.md.icloud", ("iCloud", "_instructions.md")),
        ("IMG_1.jpg.nextcloud", ("Nextcloud", "IMG_1.jpg")),
        ("Camera.cloudf", ("odrive", "Camera")),
        ("a.icloud", None),
        ("cat.jpg", None),
    ],
)
def test_a_placeholder_is_named_with_the_place_of_its_file(leaf: str, there: tuple[str, str] | None) -> None:
    assert placeholder_of(leaf) == there
