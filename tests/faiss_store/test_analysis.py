"""Which words the BM25 index finds: scripts without spaces, identifiers, stop words, letters in other forms."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tantivy
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterOperator

from rag_plugin.faiss_store import FaissStore
from rag_plugin.faiss_store.lexical import bm25_index
from rag_plugin.faiss_store.lexical.analysis import VERSION, Analyzer, indexed_text

from .nodes import ask, found, make, where


@pytest.fixture
def store(tmp_path: Path) -> Any:
    def filled(*texts: str, **settings: Any) -> FaissStore:
        store = FaissStore(tmp_path / "index", **settings)
        store.add([make(f"n{number}", number, text=text) for number, text in enumerate(texts)])
        return store

    return filled


UNRELATED = {
    "thai": "แมวนอนหลับ",
    "lao": "ແມວນອນ",
    "khmer": "ឆ្មាគេង",
    "myanmar": "ကြောင်အိပ်",
    "korean": "고양이가 잔다",
    "han": "猫睡觉",
    "kana": "ねこがねる",
    "tibetan": "བྱི་ལ།",
    "hindi": "बिल्ली सोती है",
    "tamil": "பூனை தூங்குகிறது",
    "arabic": "القطة نائمة",
    "hebrew": "החתול ישן",
}


@pytest.mark.parametrize(
    ("script", "text", "question"),
    [
        ("thai", "ฉันนั่งรถไฟไปเชียงใหม่", "รถไฟ"),
        ("thai", "ราคาน้ำมันขึ้นอีกแล้ว", "น้ำมัน"),
        ("lao", "ຂ້ອຍຂີ່ລົດໄຟໄປວຽງຈັນ", "ລົດໄຟ"),
        ("khmer", "ខ្ញុំជិះរថភ្លើងទៅភ្នំពេញ", "រថភ្លើង"),
        ("myanmar", "ရထားနဲ့သွားတယ်", "ရထား"),
        ("korean", "내일 서울에서 만나요", "서울"),
        ("korean", "도서관이 문을 닫았다", "도서관"),
        ("korean", unicodedata.normalize("NFD", "내일 서울에서 만나요"), "서울"),
        ("korean", "Python과 FAISS를 설치합니다", "FAISS"),
        ("korean", "Python과 FAISS를 설치합니다", "python"),
        ("han", "我坐火车去北京", "火车"),
        ("han", "我坐火车去北京", "京"),
        ("kana", "東京タワーに行く", "タワー"),
        ("kana", "ﾄｳｷｮｳに行く", "トウキョウ"),
        ("tibetan", "བོད་ཡིག་སྐད་ཡིག", "སྐད་ཡིག"),
        ("hindi", "मैं हिन्दी पढ़ता हूँ", "पढ़ता"),
        ("tamil", "நான் தமிழ் படிக்கிறேன்", "தமிழ்"),
        ("arabic", "هٰذَا كِتَابٌ جَدِيدٌ", "كتاب"),
        ("arabic", "هذا كتاب جديد", "كِتَاب"),
        ("hebrew", "מִלָּה חֲדָשָׁה", "מלה"),
        ("hebrew", "מלה חדשה", "מִלָּה"),
    ],
)
def test_words_are_found_in_every_script(store: Any, script: str, text: str, question: str) -> None:
    filled = store(UNRELATED[script], text, "an English text")
    assert found(filled, question) == ["n1"]


def test_a_longer_question_finds_the_text_with_all_of_it_first(store: Any) -> None:
    filled = store("รถยนต์ราคาแพง", "รถไฟไปเชียงใหม่ออกตอนเช้า", "ไฟไหม้บ้าน")
    assert found(filled, "รถไฟไปเชียงใหม่")[0] == "n1"
    assert found(filled, "ไหม้") == ["n2"] or found(filled, "ไหม้")[0] == "n2"
    # Texts that share single letters with a question are not found.
    assert found(store("가나다", "나라다"), "가다") == []


@pytest.mark.parametrize(
    ("question", "other", "text"),
    [
        ("เด็ก", "เดินกลับ", "โรงเรียนเด็กเล็ก"),
        ("รถยนต์", "นตกยร", "ขายรถยนต์มือสอง"),
        ("សំខាន់", "សខានដ", "រឿងសំខាន់ណាស់"),
        ("ကန်", "ကနဦး", "ရေကန်ကြီး"),
        ("か゚き", "かば", "か゚きく"),
        ("သွားတယ်။", "ကယ်တင်", "ရထားသွားတယ်။"),
        ("タワー・ブリッジ", "カレー ブタ", "タワー・ブリッジへ"),
        ("រថភ្លើង។", "ងងឹត", "ជិះរថភ្លើង។"),
        ("ราคา๑๐฿", "๐ ฿", "ราคา๑๐฿ครับ"),
        ("FAISS를", "나무를 심었다", "FAISS를 설치"),
        ("FastAPI는", "저는 학생", "FastAPI는 빠르다"),
        ("C++은", "작은 집", "C++은 어렵다"),
        ("GPT4가", "가나다", "GPT4가 답한다"),
        (unicodedata.normalize("NFD", "Python과"), "학과 사무실", "Python과 C"),
        ("Pythonの", "猫の本", "Pythonの本"),
    ],
)
def test_single_letters_and_marks_of_a_word_find_no_other_text(
    store: Any, question: str, other: str, text: str
) -> None:
    assert found(store(other, text), question) == ["n1"]


@pytest.mark.parametrize(
    ("question", "text"), [("책", "책을 읽다"), ("B형", "A형과 B형"), ("3월", "3월에 만나요"), ("X線", "X線検査")]
)
def test_single_letters_that_are_words_are_found(store: Any, question: str, text: str) -> None:
    assert found(store("another text", text, "나무"), question) == ["n1"]
    assert found(store("another text", text[text.index(question[-1]) :]), question) == ["n1"]


@pytest.mark.parametrize(
    ("question", "other", "text"), [("ข้าว", "ข่าว", "กินข้าวผัดกับปลา"), ("ຂ້າວ", "ຂ່າວ", "ກິນຂ້າວກັບປາ"), ("ກ້າ", "ກ່າ", "ກ້າຫານ")]
)
def test_words_that_differ_by_a_tone_are_different(store: Any, question: str, other: str, text: str) -> None:
    assert found(store(other, text), question)[0] == "n1"


def test_marks_of_a_letter_are_found_in_any_order(store: Any) -> None:
    assert found(store("แมว", "ราคาน\u0e4d\u0e49ามัน"), "น้ำมัน") == ["n1"]


@pytest.mark.parametrize("question", ["کتاب", "کتابها", "کتاب\u200cها", "کتاب ها", "کِتاب"])
@pytest.mark.parametrize("text", ["کتاب\u200cها را خواندم", "کِتاب\u200cها"])
def test_words_with_a_zero_width_non_joiner_are_found_by_their_parts_and_as_wholes(
    store: Any, question: str, text: str
) -> None:
    assert found(store("گربه", text), question) == ["n1"]
    assert found(store("گربه", "می خواهم بروم"), "می\u200cخواهم") == ["n1"]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("kız", "kızlar"), ("KIZ", "kızlar"), ("kız", "KIZLAR"), ("yıl", "yılları"),
        ("ışık", "IŞIKLAR"), ("altın", unicodedata.normalize("NFD", "altınlar")), ("istanbul", "İSTANBUL"),
        ("İstanbul", "istanbul"), ("ısparta", "ISPARTA"), ("ISPARTA", "ısparta"), ("index", "INDEX"),
        ("FAISS", "faiss"),
    ],
)  # fmt: skip
def test_turkish_words_are_stemmed_with_their_own_letters(store: Any, question: str, text: str) -> None:
    assert found(store("boş", text, language="turkish"), question) == ["n1"]


@pytest.mark.parametrize(
    ("question", "first", "others"),
    [
        ("C++", "n1", {"n0", "n2"}),
        ("C#", "n2", {"n0", "n1"}),
        ("f#", "n3", set()),
        ("F♯", "n3", set()),
        ("user", "n4", set()),
        ("getUserById", "n4", set()),
        ("getuserbyid", "n4", set()),
        ("parser", "n5", set()),
        ("HTML5Parser", "n5", set()),
        ("html5parser", "n5", set()),
        ("XMLHttpRequest", "n6", set()),
        ("http", "n6", set()),
        ("node.js", "n7", set()),
        ("std::vector", "n8", set()),
        ("foo_bar2", "n9", set()),
        ("bar2", "n9", set()),
        ("IPv6", "n10", set()),
        (".NET", "n11", set()),
        ("kebab-case", "n12", set()),
    ],
)
def test_identifiers_are_found_by_their_parts_and_as_wholes(
    store: Any, question: str, first: str, others: set[str]
) -> None:
    filled = store(
        "C is a language of 1972.", "C++ is a language of 1985.", "C# is a language of 2000.", "F# is functional.",
        "call getUserById(7) here", "an HTML5Parser reads pages", "new XMLHttpRequest()", "runs on node.js today",
        "a std::vector grows", "the field foo_bar2 is empty", "an IPv6 address", "written for .NET",
        "in kebab-case here",
    )  # fmt: skip
    hits = found(filled, question)
    assert hits[0] == first
    assert others <= set(hits)


@pytest.mark.parametrize("question", [".NET", ".Net", "dotnet"])
def test_a_name_with_a_dot_is_found_before_the_word_in_it(store: Any, question: str) -> None:
    assert found(store("a net", "written for a larger .NET project", "see example.net"), question)[0] == "n1"


@pytest.mark.parametrize("question", ["to be or not to be", "To be, or not to be?", "not to be"])
def test_a_question_of_stop_words_finds_them(store: Any, question: str) -> None:
    filled = store("The pump is old.", "He asked: to be or not to be?", "Gulls eat chips.")
    assert found(filled, question)[0] == "n1"
    assert found(filled, "the pumps") == ["n0"]  # stop words beside others are left out


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("co\u00adoper\u00adation agree\u200bment", "cooperation agreement"),
        ("cooperation", "co\u00adopera\u2060tion"),
        ("\ufeffharbour\u200e master", "harbour"),
        ("می\u200cخواهم", "میخواهم"),
        ("fi\ufe0fne", "fine"),
        ("ﬁnal oﬃce", "final office"),
        ("STRASSE", "Straße"),
        ("Straße", "STRAẞE"),
        ("İSTANBUL", "istanbul"),
        ("istanbul", "İstanbul"),
        ("ISPARTA", "ısparta"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("Ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("non\u00a0breaking", "breaking"),
        (unicodedata.normalize("NFD", "résumé Zürich"), "Zürich"),
        ("résumé Zürich", unicodedata.normalize("NFD", "résumé")),
        ("x\u0302 axis", "x\u0302"),
    ],
)
def test_words_are_found_in_other_forms(store: Any, text: str, question: str) -> None:
    assert found(store("something else", text, language="none"), question) == ["n1"]


@pytest.mark.parametrize("language", ["english", "turkish"])
@given(text=st.text(max_size=60))
def test_every_text_is_found_by_itself(language: str, text: str) -> None:
    analyzer = Analyzer(language)
    text = text.encode("utf-8", "replace").decode()
    assert set(analyzer.terms(text)) <= set(analyzer.index_analyzer.analyze(indexed_text(text, language)))


def test_files_of_an_earlier_analysis_are_rebuilt(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = store("서울에서 만나요", "another text")
    with monkeypatch.context() as patch:
        patch.setattr(bm25_index, "VERSION", 1)
        patch.setattr(bm25_index, "indexed_text", lambda text, language: text)
        filled.snapshot()
        assert found(filled, "서울") == []
    stamp = _stamp(filled.path)
    assert stamp["analysis"] == 1
    reader = FaissStore(filled.path)
    assert found(reader, "서울") == ["n0"]
    reader.snapshot()
    assert _stamp(filled.path)["analysis"] == VERSION
    assert [problem for problem in reader.verify()] == []


def test_files_without_a_version_are_rebuilt(store: Any) -> None:
    filled = store("서울에서 만나요")
    filled.snapshot()
    stamp = _stamp(filled.path)
    del stamp["analysis"]
    index = tantivy.Index.open(str(filled.path / "lexical"))
    index.register_tokenizer("words", Analyzer("english").index_analyzer)
    writer = index.writer(15_000_000, 1)
    writer.delete_all_documents()
    writer.add_document(tantivy.Document(row=-1, stamp=json.dumps(stamp)))
    writer.commit()
    writer.wait_merging_threads()
    filled.close()
    reader = FaissStore(filled.path)
    assert found(reader, "서울") == ["n0"]
    reader.snapshot()
    assert _stamp(filled.path)["analysis"] == VERSION


def _stamp(path: Path) -> dict[str, Any]:
    index = tantivy.Index.open(str(path / "lexical"))
    searcher = index.searcher()
    query = tantivy.Query.term_set_query(index.schema, "row", [-1])
    (hit,) = searcher.search(query, 1).hits
    return dict(json.loads(searcher.doc(hit[1])["stamp"][0]))


# ---------------------------------------------------------------------------------- filters


NFC, NFD = (unicodedata.normalize(form, "résumé.pdf") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("stored", [NFC, NFD], ids=["NFC stored", "NFD stored"])
@pytest.mark.parametrize("asked", [NFC, NFD], ids=["NFC asked", "NFD asked"])
@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        (FilterOperator.EQ, "{}", ["n0"]),
        (FilterOperator.NE, "{}", ["n1"]),
        (FilterOperator.IN, ["x", "{}"], ["n0"]),
        (FilterOperator.NIN, ["{}"], ["n1"]),
        (FilterOperator.TEXT_MATCH, "{}", ["n0"]),
        (FilterOperator.TEXT_MATCH_INSENSITIVE, "{}", ["n0"]),
    ],
    ids=str,
)
def test_filters_compare_names_in_one_normal_form(
    tmp_path: Path, stored: str, asked: str, operator: FilterOperator, value: Any, expected: list[str]
) -> None:
    store = FaissStore(tmp_path / "index")
    store.add([make("n0", 0, file_name=stored), make("n1", 1, file_name="other.pdf")])
    given_value = [item.format(asked) for item in value] if isinstance(value, list) else value.format(asked)
    result = store.query(ask(0, 5, filters=where("file_name", given_value, operator)))
    assert result.ids == expected
    assert store.get_nodes(["n0"])[0].metadata["file_name"] == stored  # the text itself stays


@pytest.mark.parametrize("operator", [FilterOperator.CONTAINS, FilterOperator.ANY, FilterOperator.ALL], ids=str)
def test_filters_compare_lists_in_one_normal_form(tmp_path: Path, operator: FilterOperator) -> None:
    store = FaissStore(tmp_path / "index")
    store.add([make("n0", 0, tags=[NFD, "x"]), make("n1", 1, tags=["y"])])
    value: Any = NFC if operator == FilterOperator.CONTAINS else [NFC]
    assert store.query(ask(0, 5, filters=where("tags", value, operator))).ids == ["n0"]


@pytest.mark.parametrize(("stored", "asked"), [(NFC, NFD), (NFD, NFC)])
def test_filters_compare_keys_in_one_normal_form(tmp_path: Path, stored: str, asked: str) -> None:
    store = FaissStore(tmp_path / "index")
    store.add([make("n0", 0, **{stored: "x"}), make("n1", 1, **{stored: "y"}), make("n2", 2)])
    assert store.query(ask(0, 5, filters=where(asked, "x"))).ids == ["n0"]
    assert [node.node_id for node in store.get_nodes(filters=where(asked, "y"))] == ["n1"]
    store.add([make("n3", 3, **{stored: "x"})])
    assert sorted(store.query(ask(0, 5, filters=where(asked, "x"))).ids or []) == ["n0", "n3"]
