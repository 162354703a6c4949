import pytest

from mesh.errors import PeerMisbehaved
from mesh.p2p.topics import MAX_GOSSIP_BYTES, Topics


def test_a_message_reaches_the_callback_of_its_topic_in_its_mesh():
    topics, heard = Topics("lab"), []
    topics.register("offers", lambda peer, data: heard.append((peer, data)))
    assert topics.registered() == ["/mesh/lab/offers/1.0.0"]
    topics.deliver("/mesh/lab/offers/1.0.0", "p", b"x" * MAX_GOSSIP_BYTES)
    topics.deliver("/mesh/other/offers/1.0.0", "p", b"not ours")
    assert [(peer, len(data)) for peer, data in heard] == [("p", MAX_GOSSIP_BYTES)]


def test_what_is_too_large_is_the_peers_fault_and_never_delivered():
    topics, heard = Topics("lab"), []
    topics.register("offers", lambda peer, data: heard.append(data))
    with pytest.raises(PeerMisbehaved) as caught:
        topics.deliver("/mesh/lab/offers/1.0.0", "p", bytes(MAX_GOSSIP_BYTES + 1))
    assert caught.value.rule == "gossip_too_large"
    assert heard == []
