"""Units, dates and JSON queries: exact answers, and a helpful refusal for everything else."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.experts.backends.tools.desk import answer

PEOPLE = '{"people": [{"name": "Ann", "age": 41}, {"name": "Bo", "age": 7}]}'

ANSWERS = {
    "convert 5 miles to km": "5 mile = 8.04672 kilometer",
    "convert 100 degF to degC": "100 degree_Fahrenheit = 37.77777778 degree_Celsius",
    "what is 20 °C in °F?": "20 degree_Celsius = 68 degree_Fahrenheit",
    "how many feet are in a mile?": "1 mile = 5280 foot",
    "how many meters in 3 km": "3 kilometer = 3000 meter",
    "60 mph to km/h": "60 mile_per_hour = 96.56064 kilometer / hour",
    "1,000 meters to miles": "1000 meter = 0.6213711922 mile",
    "days between 2024-01-01 and 2024-03-01": "60 days",
    "How many days are there from January 1, 2024 until 1 March 2024?": "60 days",
    "days between 2024-03-01 and 2024-01-01": "-60 days",
    "months between 2020-01-15 and 2024-03-20": "50 months and 5 days",
    "hours between 2024-01-01T00:00 and 2024-01-02T12:00": "36 hours",
    "what weekday is 2026-11-22": "Sunday",
    "What day was July 20, 1969?": "Sunday",
    "add 90 days to 2026-01-15": "2026-04-15",
    "subtract 1 day from 2024-03-01": "2024-02-29",
    "add 1 month to 2024-01-31": "2024-02-29",
    "90 days before 2024-03-01": "2023-12-02",
    "add 5 hours to 2024-01-01": "2024-01-01T05:00:00+00:00",
    "is 1900 a leap year?": "no, 1900 is not a leap year",
    f"jmespath: people[?age > `30`].name in {PEOPLE}": '["Ann"]',
    f"jmespath: people[?age>30].name in {PEOPLE}": '["Ann"]',
    f"query: people[?name=='> 5'].age in {PEOPLE}": "[]",
    'jmespath: a.b in {"a": {"b": " in {x}"}}': '" in {x}"',
}

REFUSED = {
    "hello": "no tool understands",
    "": "no tool understands",
    "5 kg to meters": "Cannot convert from 'kilogram' ([mass]) to 'meter' ([length])",
    "5 foo to bar": "'foo' is not defined",
    "1 m**9**9**9**9 to km": "is not a unit",
    "1e999 m to km": "too large",
    "what weekday is tomorrow": "'tomorrow' is not a date",
    "what weekday is 01/02/2024": "could be two dates",
    "what weekday is March": "does not say year, month and day",
    "days between 2024-02-30 and 2024-03-01": "'2024-02-30' is not a date",
    "add 999999999 years to 2024-01-01": "outside the years 1 to 9999",
    "query: a in [1": "valid JSON",
    'query: a in {"a": NaN}': "valid JSON",
    'jmespath: [ in {"a":1}': "JMESPath",
    'jmespath: nosuch(@) in {"a":1}': "Unknown function",
}


@pytest.mark.parametrize("request_", ANSWERS)
def test_it_answers(request_: str):
    assert answer(request_, {}) == ANSWERS[request_]


@pytest.mark.parametrize("request_", REFUSED)
def test_it_refuses_with_a_reason_and_examples(request_: str):
    with pytest.raises(ValueError, match="They can:") as caught:
        answer(request_, {})
    assert REFUSED[request_] in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tool": "convert", "value": 5, "from": "miles", "to": "km"}, "5 mile = 8.04672 kilometer"),
        (
            {"tool": "date", "operation": "between", "start": "2024-01-01", "end": "2024-01-15", "unit": "weeks"},
            "2 weeks",
        ),
        ({"tool": "date", "operation": "weekday", "date": "2026-11-22"}, "Sunday"),
        ({"tool": "date", "operation": "add", "date": "2024-01-01", "amount": -1}, "2023-12-31"),
        ({"tool": "date", "operation": "leap_year", "year": 2000}, "yes, 2000 is a leap year"),
        ({"tool": "jmespath", "expression": "a[0]", "data": {"a": [1]}}, "1"),
        ({"tool": "jmespath", "expression": "a[0]", "data": '{"a": [2]}'}, "2"),
        ({"temperature": 1}, "5280 foot"),
    ],
)
def test_tools_can_be_asked_by_options(options, expected):
    assert expected in answer("how many feet are in a mile", options)


@pytest.mark.parametrize(
    "options",
    [
        {"tool": "hammer"},
        {"tool": ["convert"]},
        {"tool": "convert"},
        {"tool": "convert", "value": "x", "from": "m", "to": "km"},
        {"tool": "date", "operation": "nope"},
        {"tool": "date", "operation": "add", "date": "2024-01-01", "amount": "x"},
        {"tool": "date", "operation": "between", "start": "2024-01-01", "end": "2024-01-15", "unit": "fortnights"},
        {"tool": "jmespath", "expression": ""},
        {"tool": "jmespath", "expression": "a" * 3000, "data": {}},
    ],
)
def test_malformed_options_are_invalid(options):
    with pytest.raises(ValueError, match="They can:"):
        answer("", options)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["convert 5 {} to km", "what weekday is {}", "jmespath: {} in [1]", "{}"]))
def test_any_text_is_answered_or_refused(text: str, form: str):
    with suppress(ValueError, RecursionError):
        assert isinstance(answer(form.replace("{}", text), {}), str)
