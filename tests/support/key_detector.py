"""What detect-secrets looks for besides its own: hello's API keys. It loads this file by its path."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class HelloKeyDetector(RegexBasedDetector):
    """Finds API keys: `hello_` and 43 characters of base64url, which are 256 random bits."""

    secret_type = "hello API key"  # pragma: allowlist secret
    denylist = (re.compile(r"(?<![A-Za-z0-9_-])hello_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"),)
