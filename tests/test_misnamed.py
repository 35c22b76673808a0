"""Names that are nearly those of instruction files, and what they should be."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.instructions.misnamed import misnamed
from pipeline.names import folder_files, is_instruction_file, sidecars, wants_result

RIGHT = {
    # capitals
    "_Instructions.txt": "_instructions.txt",
    "_INSTRUCTIONS.MD": "_instructions.md",
    "x/_instructions.Json": "x/_instructions.json",
    "x/a.jpg.Instructions.txt": "x/a.jpg.instructions.txt",
    "A.JPG.INSTRUCTIONS.TXT": "A.JPG.instructions.txt",
    # an ending too many, which Windows hides
    "_instructions.txt.txt": "_instructions.txt",
    "_instructions.md.txt": "_instructions.md",
    "c.jpg.instructions.txt.txt": "c.jpg.instructions.txt",
    "c.jpg.instructions.json.TXT": "c.jpg.instructions.json",
    # none, or another one
    "_instructions": "_instructions.txt",
    "a.jpg.instructions": "a.jpg.instructions.txt",
    "_instructions.markdown": "_instructions.md",
    "a.jpg.instructions.text": "a.jpg.instructions.txt",
    "_instructions.docx": "_instructions.txt",
    "_instructions.rtf": "_instructions.txt",
    # the word, and what stands before it
    "instructions.txt": "_instructions.txt",
    "Instructions.md": "_instructions.md",
    "x/instruction.txt": "x/_instructions.txt",
    "_instruction.txt": "_instructions.txt",
    "a.jpg.instruction.txt": "a.jpg.instructions.txt",
    ".instructions.md": "_instructions.md",
    "__instructions.txt": "_instructions.txt",
    "-instructions.txt": "_instructions.txt",
    "a.jpg_instructions.txt": "a.jpg.instructions.txt",
    "a.jpg-instructions.txt": "a.jpg.instructions.txt",
    "a.jpg instructions.txt": "a.jpg.instructions.txt",
    "b.Instructions.txt": "b.instructions.txt",
    # copies, and spaces that slipped in
    "_instructions (1).txt": "_instructions.txt",
    "_instructions - Copy.txt": "_instructions.txt",
    "a.jpg.instructions copy 2.txt": "a.jpg.instructions.txt",
    " _instructions.txt": "_instructions.txt",
    "_instructions .txt": "_instructions.txt",
    "_instructions.txt ": "_instructions.txt",
    "_instructions 2.txt": "_instructions.txt",
    "_instructions - Kopie.txt": "_instructions.txt",
    "_instructions - Copie (2).md": "_instructions.md",
    "_instructions_v2.txt": "_instructions.txt",
    "_instructions_copy.txt": "_instructions.txt",
    "_instructions (copy).json": "_instructions.json",
    "_instructions.txt.bak": "_instructions.txt",
    "_instructions.pdf": "_instructions.txt",
    "_instructions.rst": "_instructions.txt",
    # a mistake in the word
    "_instuctions.txt": "_instructions.txt",
    "_instrucitons.md": "_instructions.md",
    "_intruction.txt": "_instructions.txt",
    "x/a.jpg.insturctions.txt": "x/a.jpg.instructions.txt",
    # the other way round
    "instructions_a.jpg.txt": "a.jpg.instructions.txt",
    "x/Instructions a.b.JPG.json": "x/a.b.JPG.instructions.json",
    # other forms of characters, and invisible characters
    "＿instructions.txt": "_instructions.txt",  # noqa: RUF001
    "\u200b_instructions.txt": "_instructions.txt",
    "x/_instructions.txt\ufeff": "x/_instructions.txt",
    "_instru\u00adctions.txt": "_instructions.txt",
    "a.jpg.instructions\uff0etxt": "a.jpg.instructions.txt",
    # schemas
    "receipt.Schema.json": "receipt.schema.json",
    "x/receipt.schema.JSON": "x/receipt.schema.json",
    "receipt.schema.json.txt": "receipt.schema.json",
    "receipt.schema (1).json": "receipt.schema.json",
}
NOT_MEANT = [
    "instructions.jpg",
    "_instructions.png",
    "a.instructions.jpg",
    "instructions.txt.jpg",
    "photo of instructions.heic",
    "instructions",
    "manual/instructions",
    "instructions.pdf",
    "instructional.txt",
    "instructions/cat.jpg",
    "_instructions.md/cat.jpg",
    "notes.txt",
    "my.instructions",
    "_construction.txt",
    "_destructions.txt",
    "a.obstruction.txt",
    "instuctions.txt",
    "the schema.json",
    "schema.txt",
    # right ones
    "_instructions.md",
    "a.jpg.instructions.txt",
    "b.instructions.json",
    "receipt.schema.json",
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_near_miss_has_a_right_name(name: str) -> None:
    meant = misnamed(name)
    assert meant is not None
    assert (meant.right, is_instruction_file(meant.right), misnamed(meant.right)) == (RIGHT[name], True, None)
    assert wants_result(name), "so its result can name it"


@pytest.mark.parametrize("name", NOT_MEANT)
def test_any_other_name_is_not_a_near_miss(name: str) -> None:
    assert misnamed(name) is None


@pytest.mark.parametrize(
    "name", ["my_instructions.md", "cleaning instructions.txt", "instructions.txt", "_instructions.txt.bak"]
)
def test_an_ambiguous_name_is_uncertain(name: str) -> None:
    meant = misnamed(name)
    assert meant is not None
    assert not meant.is_certain


paths = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
words = st.sampled_from(
    ["", "_instructions", ".instructions.txt", "Instructions", "instruction.md.", "instructions (1)"]
)


@given(
    paths, words, paths, words, st.sampled_from(["jpg", "JPEG", "png", "Gif", "webp", "HEIC", "avif", "tiff", "bmp"])
)
def test_no_name_of_an_image_is_a_near_miss(one: str, word: str, other: str, another: str, ending: str) -> None:
    assert misnamed(f"{one}{word}{other}{another}.{ending}") is None


@pytest.mark.parametrize(
    "part", ["instructions.", "instructions ", ".schema", ".json", ".txt", "_", ".", " ", "instuctions"]
)
def test_a_long_name_is_checked_quickly(part: str) -> None:
    started = process_time()
    misnamed((part * 1024)[:1024])
    misnamed(f"instructions{part * 1024}"[:1024])
    assert process_time() - started < 0.2


@given(paths.filter(lambda path: path.rpartition("/")[2].strip(" ._-") != ""))
def test_no_right_name_is_a_near_miss(path: str) -> None:
    for name in (*sidecars(path), *folder_files(f"{path}/")):
        assert misnamed(name) is None


@given(paths, words, paths, words)
def test_the_right_name_for_a_near_miss_is_always_valid(one: str, word: str, other: str, another: str) -> None:
    meant = misnamed(f"{one}{word}{other}{another}")
    if meant is not None:
        assert is_instruction_file(meant.right)
        assert misnamed(meant.right) is None
        assert meant.image is None or meant.right.startswith(f"{meant.image}.instructions.")
