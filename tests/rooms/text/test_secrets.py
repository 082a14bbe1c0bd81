"""What must change, what must not, and what stays true of both. Samples are put together at run
time, so that no scanner takes them for real."""

from __future__ import annotations

import base64
import json
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_devops.text.secrets import (
    MAX_DEPTH,
    Found,
    Redactor,
    find_secrets,
    is_secret_name,
    mask_value,
    redact,
    redact_data,
)

F36, F40 = "Fa1" * 12, "bC3d" * 10
GITHUB = "ghp" + "_" + F36
AWS = "AKIA" + "Q2" * 8
JWT = "eyJ" + "hbGciOi" * 3 + "." + "eyJ" + "zdWIiOi" * 3 + "." + "sig_" * 8
PEM_HEAD, PEM_END = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"
PEM_BODY = "\n".join(["MIIEow" + "Ab3/" * 14] * 6)
HUNTER = "hunter2" + "-x9"

MUST_CHANGE = {
    "pem": (f"a\n{PEM_HEAD}\n{PEM_BODY}\n{PEM_END}\nb", PEM_BODY[:30], "private-key"),
    "pem without end": (f"{PEM_HEAD}\n{PEM_BODY}", PEM_BODY[:30], "private-key"),
    "pem without begin": (f"{PEM_BODY}\n{PEM_END}\nb", PEM_BODY[:30], "private-key"),
    "pem in json": (f'"{PEM_HEAD}\\n{PEM_BODY[:62]}\\n"', PEM_BODY[:30], "private-key"),
    "pem with timestamps": (
        f"t1 {PEM_HEAD}\nt1 " + PEM_BODY.replace("\n", "\nt1 ") + f"\nt1 {PEM_END}",
        PEM_BODY[:30], "private-key"),
    "aws id": (f"using {AWS} for s3", AWS, "aws"),
    "github": (f"remote: {GITHUB}", GITHUB, "github"),
    "github fine": ("x github_" + "pat_" + "1a" * 35, "1a" * 35, "github"),
    "gitlab": ("x glp" + "at-" + F40, F40, "gitlab"),
    "slack": ("x xox" + "b-123456-" + F40, F40, "slack"),
    "slack hook": ("https://hooks.slack" + ".com/services/T0/B0/" + F40, F40, "slack"),
    "jwt": (f"got {JWT} from", JWT, "jwt"),
    "stripe": ("x sk" + "_live_" + F40, F40, "stripe"),
    "llm": ("x sk" + "-ant-" + F40, F40, "llm"),
    "google": ("x AI" + "za" + ("Q1_-x" * 7), "Q1_-x" * 7, "google"),
    "sentry": ("x sntry" + "s_" + F40, F40, "sentry"),
    "npm": ("x np" + "m_" + F36, F36, "package"),
    "vault": ("x hv" + "s." + F40, F40, "hashicorp"),
    "url": (f"postgres://app:{HUNTER}@db:5432/x", HUNTER, "url"),
    "url without user": (f"redis://:{HUNTER}@cache:6379", HUNTER, "url"),
    "url with at in password": (f"amqp://u:p@{HUNTER}@mq/v", HUNTER, "url"),
    "dsn": ("https://" + "0af3" * 8 + "@o1.ingest.example/42", "0af3" * 8, "dsn"),
    "header": (f"Authorization: Bearer {HUNTER}", HUNTER, "auth"),
    "header basic": (f"> authorization: Basic {F36}", F36, "auth"),
    "header json": (f'{{"Authorization":"token {HUNTER}"}}', HUNTER, "auth"),
    "header go": (f"map[Authorization:[Bearer {HUNTER}]]", HUNTER, "auth"),
    "header aws": (f"Authorization: AWS4-HMAC-SHA256 Credential=a/b, Signature={F40}", F40, "auth"),
    "bearer in prose": (f"sent bearer {F36}", F36, "bearer"),
    "flag": (f"mysql --password {HUNTER} -h db", HUNTER, "flag"),
    "flag equals": (f"app --db-password={HUNTER}", HUNTER, "named"),
    "curl user": (f"curl -u admin:{HUNTER} https://x", HUNTER, "flag"),
    "docker auth": (f'{{"auth": "{F36}"}}', F36, "docker"),
    "cookie": (f"Cookie: sid={HUNTER}; theme=dark", HUNTER, "cookie"),
    "presigned": (f"https://b.example/k?X-Amz-Signature={F40}&x=1", F40, "presigned"),
    "pagerduty": ('{"routing_key": "' + "a1b2" * 8 + '"}', "a1b2" * 8, "pagerduty"),
    "env": (f"DB_PASSWORD={HUNTER}", HUNTER, "named"),
    "env joined": (f"PGPASSWORD={HUNTER}", HUNTER, "named"),
    "dockerfile": (f"ENV API_TOKEN={HUNTER}", HUNTER, "named"),
    "yaml": (f"password: {HUNTER}", HUNTER, "named"),
    "yaml quoted": (f"client_secret: '{HUNTER}'", HUNTER, "named"),
    "json": (f'{{"apiKey": "{HUNTER}"}}', HUNTER, "named"),
    "json camel": (f'{{"dbPassword":"{HUNTER}"}}', HUNTER, "named"),
    "json in json": (f'{{\\"token\\":\\"{HUNTER}\\"}}', HUNTER, "named"),
    "json with spaces": ('{"password": "correct horse"}', "correct horse", "named"),
    "ruby": (f":secret_key_base=>\"{HUNTER}\"", HUNTER, "named"),
    "suffix": (f"AUTH_TOKEN_PROD={HUNTER}", HUNTER, "named"),
    "azure": (f"AccountName=a;AccountKey={F40}==;X=1", F40, "named"),
    "header key": (f"X-Api-Key: {HUNTER}", HUNTER, "named"),
    "a name behind prose": (f"token: password={HUNTER}", HUNTER, "named"),
    "manifest json": (f'{{"name":"DB_PASSWORD","value":"{HUNTER}"}}', HUNTER, "env"),
    "manifest json in json": (f'{{\\"name\\":\\"DB_PASSWORD\\",\\"value\\":\\"{HUNTER}\\"}}',
                              HUNTER, "env"),
    "manifest yaml": (f"- name: DB_PASSWORD\n  value: {HUNTER}\n", HUNTER, "env"),
}  # fmt: skip

MUST_NOT_CHANGE = [
    "invalid token: unexpected EOF",
    "password: required",
    "token: expired",
    "Error: secret: not found",
    'secret "db-creds" not found',
    "password=${DB_PASSWORD}",
    "password: $(DB_PASSWORD)",
    "PASSWORD=$DB_PASSWORD",
    'token: "{{ .Values.token }}"',
    "password: <set to the key 'pw' in secret 'db'>",
    'password: "<redacted>"',
    "password=********",
    "token=[REDACTED:named]",
    "Authorization: Bearer [REDACTED:auth]",
    "sha256:" + "0123456789abcdef" * 4,
    "commit 4f2a9c1e8b7d6a5f4e3d2c1b0a9f8e7d6c5b4a39",
    "550e8400-e29b-41d4-a716-446655440000",
    "trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
    'integrity "sha512-' + "Ab3/" * 20 + '=="',
    "prompt_tokens: 5000 completion_tokens: 120",
    "secretName: db-creds",
    "imagePullSecrets:\n- name: regcred",
    "kubectl get secrets --namespace shop",
    "http://localhost:8080/path@v1",
    "git@github.com:org/repo.git",
    "docker run -u 1000:1000 image",
    "image: registry:5000/app@sha256:" + "ab" * 32,
    "token: /var/run/secrets/kubernetes.io/serviceaccount/token",
    "--password-file /run/secrets/db",
    "monkey=banana keyboard: qwertyuiop",
    "primary key: order_id",
    "routing_key=orders.created",
    "cookie: expired session",
    "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----",
    "2026-03-01T12:00:00Z INFO request finished status=200 took=12ms",
    "",
]


@pytest.mark.parametrize(("text", "secret", "kind"), MUST_CHANGE.values(), ids=MUST_CHANGE.keys())
def test_takes_out_a_secret_and_names_its_rule(text: str, secret: str, kind: str) -> None:
    shown = redact(text)
    assert secret not in shown
    assert f"[REDACTED:{kind}]" in shown
    assert any(one.kind == kind for one in find_secrets(text))


@pytest.mark.parametrize("text", MUST_NOT_CHANGE)
def test_leaves_innocent_text_alone(text: str) -> None:
    assert redact(text) == text
    assert find_secrets(text) == []


@pytest.mark.parametrize("text", [one[0] for one in MUST_CHANGE.values()], ids=MUST_CHANGE.keys())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_what_stands_around_a_secret_stays() -> None:
    assert redact(f"a {GITHUB} b {AWS} c") == "a [REDACTED:github] b [REDACTED:aws] c"


def test_a_url_keeps_its_user_and_host() -> None:
    url = f"postgres://app:{HUNTER}@db:5432/x"
    assert redact(url) == "postgres://app:[REDACTED:url]@db:5432/x"


def test_a_replaced_key_block_keeps_the_number_of_lines() -> None:
    text = f"a\n{PEM_HEAD}\n{PEM_BODY}\n{PEM_END}\nb"
    assert redact(text).count("\n") == text.count("\n")
    assert redact(text).endswith("\nb")


def test_a_finding_says_where_and_never_what() -> None:
    (found,) = find_secrets(f"x {GITHUB}")
    assert found == Found(kind="github", start=2, end=2 + len(GITHUB))
    assert GITHUB not in repr(found)


FRAGMENTS = st.sampled_from(
    [GITHUB, AWS, JWT, PEM_HEAD, PEM_END, PEM_BODY, HUNTER, "password", "token", "dbSecret", "=",
     ": ", ":=", '"', "'", "\\", '\\"', " ", "\n", "{", "}", ",", ";", "Authorization: ", "Bearer ",
     "Basic ", "cookie: ", "a=b", "name: ", "value: ", "https://", "u:", "@", "host/1", "--token ",
     "-u ", "[REDACTED:named]", "REDACTED", "]", "[", "${X}", "expired", "x-api-key", "word", "1",
     "/etc/app/token", "Digest ", "routing_key"]
)  # fmt: skip
NOISE = st.one_of(st.lists(FRAGMENTS, max_size=14).map("".join), st.text(max_size=80))


@settings(max_examples=400)
@given(NOISE)
def test_nothing_is_found_in_what_was_redacted(text: str) -> None:
    shown = redact(text)
    assert find_secrets(shown) == []
    assert shown.count("\n") == text.count("\n")


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,\n", max_size=200))
def test_words_and_numbers_without_a_name_or_a_mark_stay(text: str) -> None:
    assert redact(text) == text or find_secrets(text)


KNOWN = 'sesame/open+it "now" & <é>'


@pytest.mark.parametrize(
    "spelling",
    [
        KNOWN,
        quote(KNOWN, safe=""),
        quote(KNOWN),
        json.dumps(KNOWN)[1:-1],
        repr(KNOWN)[1:-1],
        KNOWN.encode().hex(),
        base64.b64encode(KNOWN.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(KNOWN.encode()).decode().rstrip("="),
    ],
)
def test_a_known_value_is_masked_in_every_spelling(spelling: str) -> None:
    shown = Redactor([KNOWN]).text(f"upstream said <<{spelling}>> and closed")
    assert spelling not in shown
    assert "[REDACTED:configured]" in shown


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_a_known_value_is_masked_inside_longer_base64(before: bytes, after: bytes) -> None:
    value = "correct-horse-battery-staple"
    text = base64.b64encode(before + value.encode() + after).decode()
    assert "[REDACTED:" in Redactor([value]).text(text)


def test_short_known_values_and_parts_of_the_mark_are_not_searched_for() -> None:
    redactor = Redactor(["abc", "REDACTED", "configured", "  "])
    assert redactor.text("abc configured REDACTED") == "abc configured REDACTED"


def test_a_redactor_shows_nothing_of_what_it_knows() -> None:
    assert KNOWN not in repr(Redactor([KNOWN])) + str(Redactor([KNOWN]))


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "dbPassword", "PGPASSWORD", "clientSecret", "API_KEY", "apiKey",
     "APIKey", "x-api-key", "AWS_SECRET_ACCESS_KEY", "token", "auth.token", "SENTRY_DSN", "secrets",
     "SECRET_KEY_BASE", "Authorization", "Set-Cookie", "connectionString", "TOKEN_2", "pwd"],
)  # fmt: skip
def test_a_secret_name_is_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "secretName", "tokenFile", "password_file", "key", "monkey", "prompt_tokens", "author",
     "namespace", "keyboard", "tokenizer", "secretKeyRef"],
)  # fmt: skip
def test_an_innocent_name_is_not_a_secret_name(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DB_PASSWORD", "x", "[REDACTED:env]"),
        ("DB_PASSWORD", "", ""),
        ("DB_PASSWORD", "$(FROM_ELSEWHERE)", "$(FROM_ELSEWHERE)"),
        ("DB_HOST", "db", "db"),
        ("DB_URL", f"mysql://a:{HUNTER}@db/x", "mysql://a:[REDACTED:url]@db/x"),
    ],
)
def test_a_named_value_is_masked_by_its_name(name: str, value: str, shown: str) -> None:
    assert mask_value(name, value) == shown


DATA: dict[str, tuple[Any, Any]] = {
    "by key": ({"password": "a", "host": "b"}, {"password": "[REDACTED:key]", "host": "b"}),
    "by name and value": (
        {"env": [{"name": "DB_PASSWORD", "value": "a"}, {"name": "HOST", "value": "b"}]},
        {"env": [{"name": "DB_PASSWORD", "value": "[REDACTED:env]"},
                 {"name": "HOST", "value": "b"}]}),
    "capital pair": ({"Key": "API_TOKEN", "Value": 12}, {"Key": "API_TOKEN",
                                                         "Value": "[REDACTED:env]"}),
    "by reference": (
        {"name": "PW_TOKEN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "pw"}}},
        {"name": "PW_TOKEN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "pw"}}}),
    "argument list": (["app", "--token", "a", "--v", "b"], ["app", "--token", "[REDACTED:arg]",
                                                            "--v", "b"]),
    "flag then flag": (["--token", "--verbose"], ["--token", "--verbose"]),
    "environment list": (["DB_PASSWORD=a", "HOST=b"], ["DB_PASSWORD=[REDACTED:env]", "HOST=b"]),
    "header pairs": ([["Cookie", "a=b"], ["Host", "x"]], [["Cookie", "[REDACTED:key]"],
                                                          ["Host", "x"]]),
    "list under a key": ({"secrets": ["a", "b"]}, {"secrets": ["[REDACTED:key]"] * 2}),
    "kubernetes secret": (
        {"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "Yg==", "b": ""}},
        {"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "[REDACTED:secret]", "b": ""}}),
    "docker auth": ({"auths": {"r": {"auth": "dXNlcjpw"}}, "auth": "basic"},
                    {"auths": {"r": {"auth": "[REDACTED:key]"}}, "auth": "basic"}),
    "numbers": ({"password": 12345, "token": 5, "ratio": 0.5, "on": True, "none": None},
                {"password": "[REDACTED:key]", "token": 5, "ratio": 0.5, "on": True, "none": None}),
    "text inside": ({"log": f"x {AWS}"}, {"log": "x [REDACTED:aws]"}),
    "keys": ({AWS: 1, AWS[:-1] + "7": 2}, {"[REDACTED:aws]": 1, "[REDACTED:aws]#2": 2}),
    "tuples and objects": ({"a": ("b", frozenset({"c"}))}, {"a": ["b", ["c"]]}),
}  # fmt: skip


@pytest.mark.parametrize(("data", "shown"), DATA.values(), ids=DATA.keys())
def test_structured_data_is_redacted_by_its_structure(data: Any, shown: Any) -> None:
    assert redact_data(data) == shown
    assert redact_data(shown) == shown


def test_an_unknown_object_is_redacted_as_its_text() -> None:
    class Strange:
        def __str__(self) -> str:
            return f"token={HUNTER}"

    assert redact_data({"x": Strange()}) == {"x": "token=[REDACTED:named]"}


def test_data_nested_without_end_is_cut() -> None:
    data: Any = "x"
    for _ in range(5_000):
        data = [data]
    shown = json.dumps(redact_data(data))
    assert shown.count("[") <= MAX_DEPTH + 2


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), NOISE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(["name", "value", "password", "kind"]), NOISE),
                        inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_redacting_data_twice_is_redacting_it_once(data: Any) -> None:
    once = redact_data(data)
    assert redact_data(once) == once


@pytest.mark.parametrize(
    "pattern",
    [PEM_HEAD + " ", PEM_END, PEM_BODY + PEM_END, "password=", 'password="', "a://b:", "token: ",
     "eyJ" + "a" * 9 + ".", "name: x_token\n  ", "-u a:", "authorization: ", "a" * 50 + "=",
     'secret="\\\\', "a.b-c_", "cookie: a=", "https://a:b@c@"],
)  # fmt: skip
def test_hostile_input_of_a_quarter_megabyte_comes_to_an_end(pattern: str) -> None:
    shown = redact(pattern * (200_000 // len(pattern)))
    assert isinstance(shown, str)
