"""Calls over HTTP: what is said (``wire``, ``operation``), how a call is held through failures (``conversation``), who is calling
(``credentials``, ``sessions``), and the two transports that carry it. Knows no noun of the platform and no client."""
