"""What the Hub's webhook says: is a POST by whom the secret was given to, and which model repo's content is it about.

The secret comes back verbatim in `X-Webhook-Secret`, and nothing is signed (huggingface.co/docs/hub/webhooks). So a
POST is no news by itself: it is a reason to look. Not here: listening, and who looks (`tasks.nudge`).
"""

from __future__ import annotations

import hmac
import json

SECRET_HEADER = "X-Webhook-Secret"


def is_ours(sent: str | None, secret: str) -> bool:
    """Whether the header's value is the secret; takes as long for a nearly right one as for a wrong one."""
    return hmac.compare_digest((sent or "").encode(), secret.encode())


def model_repo(body: bytes) -> str | None:
    """The model repo (owner/name) whose content changed; None for anything else that may happen to a repo.

    Raises:
        ValueError: no JSON of a webhook.
    """
    try:
        said = json.loads(body)
        repo, scope = said["repo"], said["event"]["scope"]
        name, kind = repo["name"], repo["type"]
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"no webhook of a hub: {error!r}") from error
    return str(name) if kind == "model" and str(scope).startswith("repo.content") else None
