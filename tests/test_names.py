"""Every image name has a result name of its own that Azure accepts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.names import MAX_BLOB_NAME, result_name, stands_for_folder, wants_result

# What people and programs put into names: any character, and the ones that URLs, shells and Azure treat specially.
names = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(list(" %#?+&.~/\\'\"äß漢😀"))),
    min_size=1,
    max_size=40,
)
long_names = st.builds(
    lambda seed, length: (seed * MAX_BLOB_NAME)[:length], names, st.integers(MAX_BLOB_NAME - 80, MAX_BLOB_NAME)
)
any_names = st.one_of(names, long_names)


def utf16_length(name: str) -> int:
    return len(name.encode("utf-16-le")) // 2


@given(names)
def test_a_result_is_named_after_the_whole_image_name(name: str) -> None:
    assert result_name(name) == f"{name}.json"


@given(any_names)
def test_a_result_name_is_never_longer_than_azure_allows(name: str) -> None:
    assert utf16_length(result_name(name)) <= MAX_BLOB_NAME
    assert result_name(name).endswith(".json")


@given(any_names, any_names)
@example("a.jpg", "a.png")
@example("x" * 1024, "x" * 1023)
@example("x" * 1020, "x" * 1019)
@example("😀" * 512, "😀" * 511)
def test_two_images_never_share_a_result(one: str, other: str) -> None:
    assert (one == other) == (result_name(one) == result_name(other))


@given(long_names)
@example("x" * 1024)
def test_no_name_can_be_made_to_share_anothers_shortened_result_name(victim: str) -> None:
    """An image can be called what a short form is called, less .json; its result still lies elsewhere."""
    forged = result_name(victim).removesuffix(".json")
    if forged != victim:
        assert result_name(forged) != result_name(victim)


@pytest.mark.parametrize(
    "name",
    [
        "cat.jpg.instructions.md",
        "a/b.png.instructions.txt",
        "c.instructions.json",
        "_instructions.md",
        "a/b/_instructions.json",
        "receipt.schema.json",
        "photo.jpg.expected.json",
    ],
)
def test_instruction_files_get_no_result(name: str) -> None:
    assert not wants_result(name)


@pytest.mark.parametrize(
    "name", ["cat.jpg", "notes.txt", "instructions.md", "my_instructions.md", "_x.jpg", "a.json", "x/.hidden.png"]
)
def test_every_other_upload_gets_a_result(name: str) -> None:
    assert wants_result(name)


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("dir/", {}),
        ("dir/", {"is_directory": "false"}),
        ("dir", {"hdi_isfolder": "true"}),
        ("dir", {"Hdi_isfolder": "true"}),
        ("dir", {"hdi_isfolder": "True"}),
        ("dir", {"HDI_ISFOLDER": "TRUE", "owner": "x"}),
        ("dir", {"is_directory": "true"}),
        ("a.jpg", {"Is_Directory": "True"}),
    ],
)
def test_an_empty_blob_marks_a_folder_by_its_name_or_its_metadata(name: str, metadata: dict[str, str]) -> None:
    assert stands_for_folder(name, 0, metadata)
    assert not stands_for_folder(name, 1, metadata)


@pytest.mark.parametrize("metadata", [{}, {"is_directory": "false"}, {"hdi_isfolder": ""}, {"folder": "true"}])
def test_other_empty_blobs_do_not_mark_a_folder(metadata: dict[str, str]) -> None:
    assert not stands_for_folder("a.jpg", 0, metadata)
