"""How much of a shared room one caller may take, when nobody who is in can be put out again. Pure."""

# Of all room, the part that is for callers who hold less than their share.
RESERVED = 1 / 8


def has_room(own: int, total: int, callers: int, limit: int) -> bool:
    """Whether a caller that holds ``own`` of ``total`` may have one more, where ``callers`` share ``limit``.

    Up to the reserve everybody may. In it only those may who hold less than they would if one more came and all had the
    same. A full room is no matter of shares: that answers True.
    """
    if total < limit - int(limit * RESERVED) or total >= limit:
        return True
    return own < max(1, limit // (callers + 1))
