"""Conversations: what is one, what its last question is, and that it comes back as it was sent."""

import pytest

from mesh.experts.backends.messages import ToolCalls, texts_of
from mesh.experts.calls import AttemptFailed, Call
from mesh.experts.chat import check_chat, decode_chat, encode_chat, question_of, shows_something
from mesh.experts.queries import parse_query

TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": [{"type": "text", "text": "And three?"}, {"type": "image_url", "image_url": {}}]},
    ]
}


def test_the_question_is_what_the_user_said_last():
    assert question_of(TALK) == "And three?"
    assert parse_query({"chat": TALK}).content == "And three?"
    assert parse_query({"chat": TALK, "content": "else"}).content == "else"
    assert question_of({"messages": [{"role": "system", "content": "Say hello."}]}) == "Say hello."


def test_a_picture_beside_the_last_question_is_more_than_words():
    assert shows_something(TALK)
    before = {"messages": [*TALK["messages"], {"role": "user", "content": [{"type": "text", "text": "And five?"}]}]}
    assert not shows_something(before)
    assert not shows_something({"messages": [{"role": "system", "content": "Say hello."}]})


def test_a_chat_comes_back_as_it_was_sent():
    assert decode_chat(encode_chat(TALK)) == TALK
    assert encode_chat(None) == ""


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        ({"messages": []}, "1 to 2048"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].*role"),
        ({"messages": ["x"]}, r"messages\[0\]"),
        ({"messages": [{"role": "user"}]}, "has no content"),
        ({"messages": [{"role": "user", "content": 3}]}, "a string or a list"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "objects with a type"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": "hammer"}, "tools must be a list"),
        ({"messages": [{"role": "user", "content": "x"}], "stream": True}, "stream is not a field"),
    ],
)
def test_what_is_no_chat_is_refused_by_name(chat, words):
    with pytest.raises(ValueError, match=words):
        check_chat(chat)
    with pytest.raises(ValueError, match=words):
        parse_query({"chat": chat})


def test_a_query_must_ask_something():
    with pytest.raises(ValueError, match="content = ''"):
        parse_query({"content": ""})
    with pytest.raises(ValueError, match="content"):
        parse_query({})
    with pytest.raises(ValueError, match="no message of the chat has any text"):
        parse_query({"chat": {"messages": [{"role": "user", "content": ""}]}})


def call(content: str) -> Call:
    return Call(request="r", expert="e", domain="d", content=content, timeout_ms=1, task="embed")


def test_texts_to_embed_are_a_list():
    assert texts_of(call('["a","b"]')) == ["a", "b"]
    for content in ("[]", "a", '"a"', "[1]", "{}"):
        with pytest.raises(AttemptFailed, match="JSON list"):
            texts_of(call(content))


def chunk(*pieces: object) -> dict[str, object]:
    return {"choices": [{"delta": {"tool_calls": list(pieces)}}]}


def test_calls_of_tools_are_put_together_from_their_pieces():
    calls = ToolCalls()
    assert not calls
    calls.add({"choices": [{"delta": {"content": "x"}}]})
    calls.add(chunk({"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}))
    calls.add(chunk({"index": 1, "id": "c2", "function": {"name": "sub", "arguments": "{}"}}))
    calls.add(chunk({"index": 0, "function": {"arguments": '{"a":'}}, {"index": 0, "function": {"arguments": "1}"}}))
    calls.add(chunk("nonsense", {"index": "no", "function": {}}))
    assert calls
    assert calls.message("") == (
        '{"role":"assistant","content":null,"tool_calls":['
        '{"id":"c1","type":"function","function":{"name":"add","arguments":"{\\"a\\":1}"}},'
        '{"id":"c2","type":"function","function":{"name":"sub","arguments":"{}"}}]}'
    )
