"""How secrets look in text: one rule a shape. Rule names follow the ids of gitleaks v8.

Every quantifier is bounded or possessive, so that hostile input costs linear time, and each rule
names literals of which one must occur, so that ordinary text costs a few substring searches.
There is no entropy rule: on ordinary logs it fires on more innocent words than secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

Span = tuple[int, int]

_ID = r"[A-Za-z0-9_-]"
_PLAIN = r"[\w.~+/=:-]"
_QUOTE = r"\\{0,3}[\"']"

_ALWAYS = r"password|passwd|passphrase|passcode"
_WEAK = (
    r"pwd|secrets?|token|jwt|credentials?|dsn|connection[_.\-]?string"
    r"|(?:api|app|application|access|account|secret|private|signing|encryption|master|service"
    r"|session|ssh|deploy|integration|license)[_.\-]?key"
)
_SUFFIX = (
    r"(?:[_.\-]?(?:id|key|value|data|hash|base64|base|prod|production|staging|stage|dev|test|old"
    r"|new|current|primary|secondary|\d{1,3})(?![A-Za-z0-9])){0,2}"
)
_NAME = (
    rf"(?:(?i:{_ALWAYS})"
    rf"|(?:(?<![A-Za-z0-9])|(?<=[a-z0-9])(?=[A-Z]))(?i:{_WEAK}))(?i:{_SUFFIX})"
)
_VALUE = (
    r"(?:\\{1,3}\"((?:[^\"\\\r\n]|\\{1,8}[^\"\\\r\n]){1,2048})\\{1,3}\""
    r"|\"((?:[^\"\\\r\n]|\\.){1,2048})\""
    r"|'((?:[^'\\\r\n]|\\.){1,2048})'"
    r"|([^\s\"'<>,;&{}()\[\]|\\]{4,2048}))"
)

_NOT_A_SECRET = re.compile(
    r"\$[A-Z_][A-Z0-9_]*|\$[({][^\s(){}]*[)}]?|\{\{.*\}\}|<[^<>]*>|%[a-z]|%\(\w+\)s|%\{\w+\}"
    r"|\*{3,}|x{4,}|\.{3,}|\[?(?:redacted|filtered)\b.*"
    r"|(?:true|false|null|none|nil|undefined|empty|unset|authentication|authorization|required"
    r"|invalid|expired|missing|failed|denied|revoked|not|is|was|and|for|from|must|with|error|value"
    r"|string|option|argument|bearer|basic|token|digest|negotiate|apikey|sentry-bearer)[.,:;]?",
    re.IGNORECASE,
)
_LOWER_CASE_PATH = re.compile(r"(?:~|\.{1,2})?(?:/[a-z0-9._-]{1,64}){2,}/?")
_WORD_LIKE = re.compile(r"[A-Za-z]?[a-z]*[.,:;!?]?|[A-Z]+")
_PROSE_LENGTH = 12


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret, or for none, instead of being one."""
    return _NOT_A_SECRET.fullmatch(value) is not None


def reads_as_prose(value: str) -> bool:
    """Whether an unquoted value after a colon is the next word of a sentence, or a file's path."""
    if _LOWER_CASE_PATH.fullmatch(value):
        return True
    return len(value) < _PROSE_LENGTH and _WORD_LIKE.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """One shape of a secret."""

    name: str
    """What stands in the replacement."""
    literals: tuple[str, ...]
    """Lower-case strings of which one must occur for the rule to be tried."""
    spans: Callable[[str], Iterator[Span]]
    """Finds what to replace, as [start, end) offsets."""


def _rule(name: str, literals: str, pattern: str) -> Rule:
    """A rule that replaces its pattern's last group that took part, or else the whole match."""
    return Rule(name, tuple(literals.split()), partial(_pattern_spans, re.compile(pattern)))


def _pattern_spans(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        group = match.lastindex or 0
        if group == 0 or not is_placeholder(match[group]):
            yield match.span(group)


_NAMED = re.compile(
    rf"{_NAME}(?:{_QUOTE})?[ \t]{{0,3}}+(?P<separator>=>|:=|=|:)[ \t]{{0,3}}+{_VALUE}"
)


def _named_spans(text: str) -> Iterator[Span]:
    position = 0
    while match := _NAMED.search(text, position):
        group = match.lastindex or 0
        value, unquoted = match[group], group == _NAMED.groups
        position = match.end()
        if is_placeholder(value):
            continue
        if unquoted and ":" in match["separator"] and reads_as_prose(value):
            # "token: password=…": the word taken for a value may itself be a name.
            position = match.start(group)
            continue
        yield match.span(group)


_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:(?!-----)[\s\S]){0,16384}+-----END [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:\s|\\[nr]){0,8}+[A-Za-z0-9+/=]{16,}+){0,400}+)"
)
_PRIVATE_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE = re.compile(r"(?:.{0,64}\s)?[A-Za-z0-9+/=]{16,128}\s*")
_LAST_KEY_LINE = re.compile(r"(?:.{0,64}\s)?[A-Za-z0-9+/=]{16,128}\s*|[A-Za-z0-9+/=]{1,128}\s*")
_LONGEST_KEY_LINE = 256


def _private_key_spans(text: str) -> Iterator[Span]:
    done = 0
    for match in _PRIVATE_KEY.finditer(text):
        yield from _headless_key_spans(text, done, match.start())
        yield match.span()
        done = match.end()
    yield from _headless_key_spans(text, done, len(text))


def _headless_key_spans(text: str, start: int, end: int) -> Iterator[Span]:
    """Key bodies of which only the end is left, because the text was cut to its newest part."""
    for match in _PRIVATE_KEY_END.finditer(text, start, end):
        first, shape = match.start(), _LAST_KEY_LINE
        while first > start:
            nearest = max(first - _LONGEST_KEY_LINE, start)
            line = max(text.rfind("\n", nearest, first - 1) + 1, start)
            if first - line > _LONGEST_KEY_LINE or not shape.fullmatch(text, line, first):
                break
            first, shape = line, _KEY_LINE
        yield first, match.end()


RULES: tuple[Rule, ...] = (
    Rule("private-key", ("private key",), _private_key_spans),
    _rule("aws", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    _rule(
        "github",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{60,100})\b",
    ),
    _rule("gitlab", "gl", rf"\bgl(?:pat|ptt|rt|dt|ft|agent|cbt|soat|imt)-{_ID}{{20,}}"),
    _rule(
        "slack",
        "xox xapp- hooks.slack",
        r"\bxox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{10,}"
        r"|https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[\w/+-]{20,}",
    ),
    _rule("jwt", "eyj", rf"\beyJ{_ID}{{8,}}\.eyJ{_ID}{{8,}}(?:\.{_ID}{{0,1024}})?"),
    _rule("stripe", "sk_ rk_ whsec_", r"\b(?:sk|rk|whsec)_(?:live|test)?_?[A-Za-z0-9]{20,}\b"),
    _rule("llm", "sk-", rf"\bsk-(?:ant-|proj-|svcacct-|or-)?{_ID}{{20,}}"),
    _rule(
        "google",
        "aiza ya29. gocspx-",
        rf"\bAIza{_ID}{{35}}|\bya29\.{_ID}{{20,}}|\bGOCSPX-{_ID}{{20,}}",
    ),
    _rule("sentry", "sntry", r"\bsntry[su]_[A-Za-z0-9+/=_-]{30,}"),
    _rule(
        "package",
        "npm_ pypi- dckr_",
        rf"\bnpm_[A-Za-z0-9]{{36}}\b|\bpypi-{_ID}{{50,}}|\bdckr_(?:pat|oat)_{_ID}{{20,}}",
    ),
    _rule(
        "hashicorp",
        "hvs. hvb. hvr. atlasv1",
        rf"\bhv[sbr]\.{_ID}{{24,}}|\b[A-Za-z0-9]{{14}}\.atlasv1\.{_ID}{{60,}}",
    ),
    _rule(
        "url",
        "://",
        r"(?i)(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s:/?#@'\"<>\[\]]{0,256}"
        r":([^\s'\"<>/]{1,512})@(?=[^\s/@])",
    ),
    _rule("dsn", "@", r"https?://([0-9a-f]{32})@[A-Za-z0-9.-]+/\d"),
    _rule(
        "auth",
        "authorization",
        rf"(?i)\b(?:proxy-)?authorization(?:{_QUOTE})?[ \t]{{0,4}}[:=][ \t]{{0,4}}[\[\"'\\]{{0,3}}"
        r"(?:(?:aws4-hmac-sha256|digest|signature)[ \t]+([^\r\n\"'\]]{6,2048})"
        rf"|(?:(?:sentry-)?[a-z][a-z-]{{2,15}}[ \t]+)?({_PLAIN}{{6,}}))",
    ),
    _rule("bearer", "bearer", r"(?i)\bbearer\s{1,4}([\w.~+/=-]{16,})"),
    _rule(
        "flag",
        "-- -u",
        r"(?i)(?<!\S)--(?:[a-z0-9]{1,20}-){0,4}(?:password|passwd|passphrase|token|secret|api-?key"
        r"|access-?key|secret-?key|private-?key|credentials?)[ \t]{1,3}(?!-)([^\s\"'<>]{4,2048})"
        r"|(?<!\S)-u[ \t]{0,3}[^\s:/]{1,64}:(?!\d+(?:\s|$))([^\s:/]{3,512})(?!\S)",
    ),
    _rule(
        "docker",
        '"auth" \\"auth identitytoken registrytoken',
        rf"(?i)(?:auth|identitytoken|registrytoken){_QUOTE}\s{{0,4}}:\s{{0,4}}{_QUOTE}"
        r"([\w+/=.-]{8,})\\{0,3}[\"']",
    ),
    _rule(
        "cookie",
        "cookie",
        rf"(?i)\b(?:set-)?cookie(?:{_QUOTE})?[ \t]{{0,4}}[:=][ \t]{{0,4}}[\[\"'\\]{{0,3}}"
        r"([^\s=;,\"'\[\]]{1,128}=[^\r\n\"'\]]{1,8192})",
    ),
    _rule(
        "presigned",
        "signature= sig= credential= security-token=",
        r"(?i)[?&;](?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig)"
        r"=([^&\s\"'<>\\]{8,2048})",
    ),
    _rule(
        "pagerduty",
        "routing",
        rf"(?i)routing[_-]?key(?:{_QUOTE})?\s{{0,3}}[:=]\s{{0,3}}"
        r"(?:\\{0,3}[\"'])?\b([a-z0-9]{32})\b",
    ),
    _rule(
        "env",
        "name",
        # Kubernetes prints the name and the value of a variable apart, in JSON and in YAML.
        rf"(?i)\bname(?:{_QUOTE})?\s{{0,3}}:\s{{0,3}}(?:{_QUOTE})?[\w.-]{{0,100}}?{_NAME}"
        rf"(?:{_QUOTE})?(?:\s{{0,3}},\s{{0,64}}|[ \t]{{0,8}}\r?\n\s{{0,64}})(?:{_QUOTE})?"
        rf"value(?:{_QUOTE})?[ \t]{{0,3}}:[ \t]{{0,3}}{_VALUE}",
    ),
    Rule(
        "named",
        (
            "passw",
            "passphrase",
            "passcode",
            "pwd",
            "secret",
            "token",
            "jwt",
            "key",
            "credential",
            "dsn",
            "connection",
        ),
        _named_spans,
    ),
)
"""All rules, in the order in which a tie is named."""

SECRET_NAME = re.compile(
    rf"(?:{_ALWAYS}|(?:^|[_.\-])(?:{_WEAK}|authorization|(?:set[_.\-])?cookie"
    rf"|identitytoken|registrytoken)){_SUFFIX}$"
)
"""Matches the lower-case, underscore-parted name of a setting whose value is a secret."""

PASSWORD_NAME = re.compile(rf"(?:{_ALWAYS}|(?:^|[_.\-])pwd)$")
"""Names whose value is a secret even when it is a number."""
