"""The parser of sums of texts: valid input, output, and errors."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_plugin.errors import QuestionError
from rag_plugin.explore import Expression, Term, parse_expression


def terms(text: str) -> list[tuple[str, float]]:
    return [(term.text, term.weight) for term in parse_expression(text).terms]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("king - man + woman", [("king", 1), ("man", -1), ("woman", 1)]),
        ("  king-man  ", [("king-man", 1)]),
        ("king -man +woman", [("king", 1), ("man", -1), ("woman", 1)]),
        ("king- man+ woman", [("king", 1), ("man", -1), ("woman", 1)]),
        ("well-known - known", [("well-known", 1), ("known", -1)]),
        ("- man + king", [("man", -1), ("king", 1)]),
        ("+king", [("king", 1)]),
        ("king − man", [("king", 1), ("man", -1)]),
        ("king – man", [("king", 1), ("man", -1)]),
        ("New   York - USA + France", [("New York", 1), ("USA", -1), ("France", 1)]),
        ('"New York"-"USA"+France', [("New York", 1), ("USA", -1), ("France", 1)]),
        ("“C++” - C", [("C++", 1), ("C", -1)]),
        ("„C++“ - C", [("C++", 1), ("C", -1)]),
        (r'"a \"b\" c" + d', [('a "b" c', 1), ("d", 1)]),
        ('"- + *" - x', [("- + *", 1), ("x", -1)]),
        ("2 * king - 0.5*man + .25 *woman", [("king", 2), ("man", -0.5), ("woman", 0.25)]),
        ("3 kings - 1984", [("3 kings", 1), ("1984", -1)]),
        ('2 * "C++"', [("C++", 2)]),
        ("don't - do", [("don't", 1), ("do", -1)]),
        ("東京 - 日本 + フランス", [("東京", 1), ("日本", -1), ("フランス", 1)]),
        ("f*ck - x", [("f*ck", 1), ("x", -1)]),
        ("man : king :: woman : ?", [("king", 1), ("man", -1), ("woman", 1)]),
        ("man:king::woman:?", [("king", 1), ("man", -1), ("woman", 1)]),
        ('"a::b" : New York :: "c:d" : ?', [("New York", 1), ("a::b", -1), ("c:d", 1)]),
        ('"std::vector" - C', [("std::vector", 1), ("C", -1)]),
        ("ratio 1:2 + x", [("ratio 1:2", 1), ("x", 1)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sum_is_parsed(text: str, expected: list[tuple[str, float]]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the sum is empty; write it as  king - man + woman"),
        ("   ", "the sum is empty; write it as  king - man + woman"),
        ("king -", "'king -', character 6: a term is missing after '-'"),
        ("king - + man", "character 6: two signs in a row; quote a term that contains a sign, such as"),
        ("C++ - C", "character 3: two signs in a row"),
        ('king - "man', "character 8: a quote is not closed"),
        ('"" + king', "character 1: the quotes are empty"),
        ('"New York" city', "character 12: a + or - is missing before 'city'"),
        ('king "man"', "character 6: a quote in the middle of a term; quote the whole term"),
        ("king * 2", "character 6: a weight is a number before its term, such as 2 * king"),
        ("2 *", "character 1: a term is missing after '2 *'"),
        ("2 * - king", "character 5: a term is missing"),
        ("9" * 400 + " * king", "... is too large"),
        ("a : b :: c", "write it as  man : king :: woman : ?"),
        ("a : b :: c : d", "the question mark is the last term"),
        (": b :: c : ?", "the question mark is the last term"),
        ("a : b : c :: d : ?", "write it as  man : king :: woman : ?"),
        ("a : b - c :: d : ?", "each part of a proportion is one term; write it as  man : king :: woman : ?"),
        ("a :: b :: c : ?", "write it as  man : king :: woman : ?"),
    ],
    ids=lambda value: value[:20],
)
def test_invalid_input_is_an_error_with_its_position(text: str, message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse_expression(text)
    assert message in str(caught.value)


names = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() != "")
weights = st.floats(min_value=1e-9, max_value=1e12).flatmap(lambda size: st.sampled_from([size, -size]))
expressions = st.lists(st.builds(Term, names, weights | st.sampled_from([1.0, -1.0, 2.0])), min_size=1, max_size=5)


@given(expressions.map(lambda terms: Expression(tuple(terms))))
@example(Expression((Term('a"b\\', -1.0), Term("- c", 0.5))))
@example(Expression((Term("  spaced  out ", 1.0), Term("a::b", 2.0))))
def test_a_printed_expression_parses_to_itself(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression


@given(st.text(alphabet=st.sampled_from('ab -+*:"\\“”?2.\n−'), max_size=20))
def test_any_text_is_parsed_or_rejected_and_parsed_text_is_stable(text: str) -> None:
    try:
        expression = parse_expression(text)
    except QuestionError:
        return
    assert expression.terms
    assert all(term.text.strip() for term in expression.terms)
    assert parse_expression(str(expression)) == expression
