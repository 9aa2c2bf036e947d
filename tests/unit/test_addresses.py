"""Addresses of databases as providers hand them out: understood as libpq would, or refused with the fix."""

import re
import ssl
from pathlib import Path

import pytest
from asyncpg import connect_utils
from hypothesis import given
from hypothesis import strategies as st

from daemon.settings.addresses import for_driver, problem, with_environment
from daemon.store.connecting import each_host
from daemon.store.passfile import password_for
from tests.marketplaces.authority import Authority

U = "postgresql://u:p%40ss@h"


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("sslmode=require&channel_binding=prefer", "sslmode=require"),
        ("connect_timeout=10&keepalives=1&keepalives_idle=30&tcp_user_timeout=9", ""),
        ("ssl=true", "sslmode=require"),
        ("requiressl=1", "sslmode=require"),
        ("gssencmode=disable&sslcompression=0&client_encoding=UTF8&load_balance_hosts=disable&sslsni=1", ""),
        ("options=-c%20geqo%3Doff&application_name=a+b", "options=-c%20geqo%3Doff&application_name=a%2Bb"),
        ("target_session_attrs=any&sslnegotiation=direct", "target_session_attrs=any&sslnegotiation=direct"),
    ],
)  # fmt: skip
def test_what_libpq_understands_is_understood(query: str, left: str) -> None:
    dsn = f"{U}/erp?{query}"
    assert problem(dsn) is None
    assert for_driver(dsn).dsn == f"{U}/erp" + (f"?{left}" if left else "")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("channel_binding=require", "channel_binding: the driver cannot bind channels: leave it out; sslmode=verify"),
        ("pgbouncer=true", "pgbouncer: leave it out, and set database.prepared_statements = false"),
        ("statement_cache_size=0", "database.prepared_statements = false"),
        ("connection_limit=5", "database.pool_size"),
        ("schema=erp", "name their tables with the schema"),
        ("search_path=erp", "search_path: a setting of the server is written as options=-c%20search_path%3DVALUE"),
        ("gssencmode=require", "gssencmode: the driver encrypts with TLS alone"),
        ("client_encoding=latin1", "client_encoding: the driver speaks UTF-8 alone"),
        ("sslmod=require", "sslmod: there is no such parameter; did you mean sslmode?"),
        ("require_auth=scram-sha-256", "require_auth: the driver cannot do it: leave it out"),
        ("zzz=1", "zzz: there is no such parameter; leave it out"),
        ("connect_timeout=soon", "connect_timeout: is not a number of seconds"),
        ("sslrootcert=/nowhere/ca.pem", "sslrootcert: /nowhere/ca.pem is not there"),
        ("host=a,b,c&port=1,2", "port: give one port for all hosts, or one for each"),
        ("port=x", "port: is not a port"),
        ("port=0", "port: is not a port"),
        ("port=%C2%B2", "port: is not a port"),
        ("host=h&port=99999", "port: is not a port"),
        ("port=5432,5433", "port: give one port for all hosts, or one for each"),
        ("connect_timeout=%C2%B2", "connect_timeout: is not a number of seconds"),
        ("host=,,&port=,,5432", "host: one of several has no name"),
        ("host=a..b", "host: is not a host's name"),
        ("host=a%20b", "host: is not a host's name"),
        ("host=%5B::1", "host: is not a host's name"),
        ("host=/" + 90 * "x", "host: is not a host's name"),
        ("user=a%00b", "has a zero byte"),
        (f"sslmode=require&sslrootcert={__file__}", "sslrootcert: "),
        (f"sslcrl={__file__}", "sslcrl: "),
        (f"sslrootcert=system&sslcert={__file__}", "sslcert: "),
        ("sslmode", "no NAME=VALUE"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named_with_the_fix(query: str, fault: str) -> None:
    found = problem(f"postgresql:///erp?{query}")
    assert found is not None
    assert fault in found


@pytest.mark.parametrize(
    ("dsn", "fault"),
    [
        ("postgresql://h/erp?port=1,2", "port: give one port for all hosts, or one for each"),
        ("postgresql://h1,h2/erp?port=1,2,3", "port: give one port for all hosts, or one for each"),
        ("postgresql://h:1,h:2/erp?host=a,b,c", "port: give one port for all hosts, or one for each"),
        ("postgresql://h:0/erp", "port: is not a port"),
        ("postgresql://h:٣/erp", "cannot be"),
        ("postgresql://h:99999/erp", "port: is not a port"),
        (f"postgresql://{64 * 'x'}/erp", "host: is not a host's name"),
        ("postgresql://[1::2::3]/erp", "host"),
        ("postgresql://%2Fx:y,%2Fz/erp?port=1,2,3", "port: give one port"),
        ("postgresql://u:\udcff@h/erp", "is not UTF-8 text"),
    ],
)
def test_a_host_or_port_that_cannot_be_is_named(dsn: str, fault: str) -> None:
    found = problem(dsn)
    assert found is not None
    assert fault in found


def test_a_key_that_is_not_the_certificates_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server()
    pair = tmp_path / "server.pem"
    assert problem(f"{U}/erp?sslcert={pair}&sslkey={pair}&sslrootcert={authority.file}") is None
    found = problem(f"{U}/erp?sslcert={pair}&sslkey={authority.file}")
    assert found is not None
    assert found.startswith("sslkey: ")


@pytest.mark.parametrize("password", ["p@ss", "p#ss", "p/ss", "p%ss", "p?ss", "p[ss", "@", "100%"])
def test_a_password_that_is_not_percent_encoded_gets_the_hint_and_is_not_shown(password: str) -> None:
    found = problem(f"postgresql://u:{password}@db.example:5432/erp")
    assert found is not None
    assert "percent-encode" in found
    assert f":{password}@" not in found


@pytest.mark.parametrize(
    ("dsn", "rewritten"),
    [
        ("postgresql:///erp?host=one,two&port=5432,5433", "postgresql://one:5432,two:5433/erp"),
        ("postgresql:///erp?host=one,two&port=6000", "postgresql://one:6000,two:6000/erp"),
        ("postgresql://u@one,two/erp?port=1,2", "postgresql://u@one:1,two:2/erp"),
        ("postgresql:///erp?host=/run/a,/run/b", "postgresql://%2Frun%2Fa,%2Frun%2Fb/erp"),
        ("postgresql:///erp?host=/run/a", "postgresql://%2Frun%2Fa/erp"),
        ("postgresql:///erp?host=/cloudsql/p:r:i", "postgresql://%2Fcloudsql%2Fp%3Ar%3Ai/erp"),
        ("postgresql://localhost:6000/erp?host=/run/a", "postgresql://%2Frun%2Fa:6000/erp"),
        ("postgresql://h/erp?port=6432", "postgresql://h:6432/erp"),
        ("postgresql:///erp?port=6432", "postgresql:///erp?port=6432"),
        ("postgresql:///erp?host=::1,fe80::1&port=6000", "postgresql://[::1]:6000,[fe80::1]:6000/erp"),
        ("postgresql://[::1]:6000/erp", "postgresql://[::1]:6000/erp"),
    ],
)
def test_lists_of_hosts_and_ports_are_put_together(dsn: str, rewritten: str) -> None:
    assert problem(dsn) is None
    assert for_driver(dsn).dsn == rewritten
    assert problem(rewritten) is None


def test_the_systems_certificates_verify_the_name_too() -> None:
    address = for_driver("postgresql://h/erp?sslrootcert=system&sslmode=verify-full&connect_timeout=10")
    assert address.dsn == "postgresql://h/erp"
    context = address.arguments["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert address.arguments["timeout"] == 10


def test_a_service_fills_in_what_the_address_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text(
        "# ours\n[shop]\nhost=db.example\nport=6000\ndbname=erp\npassword=a%b=c#d\nsslmode=require\n"
    )
    variables = {"PGSERVICEFILE": str(file)}
    filled = "host=db.example&port=6000&dbname=erp&password=a%25b%3Dc%23d&sslmode=require"
    assert with_environment("postgresql://?service=shop", variables) == f"postgresql://?{filled}"
    assert with_environment("postgresql://", {**variables, "PGSERVICE": "shop"}) == f"postgresql://?{filled}"
    assert with_environment("postgresql://u:p@h:1/x", {**variables, "PGSERVICE": "shop"}) == (
        "postgresql://u:p@h:1/x?sslmode=require"
    )
    assert with_environment("postgresql://h/x", variables) == "postgresql://h/x"
    with pytest.raises(ValueError, match=r"the service shp, which is not in .*PGSERVICEFILE"):
        with_environment("postgresql://?service=shp", variables)


@pytest.mark.parametrize(
    ("dsn", "password"),
    [
        ("postgresql://u@h/erp", r"col:on\back 快"),
        ("postgresql://u@h:6000/erp", "other port"),
        ("postgresql:///erp?host=/run/pg&user=u", "socket"),
        ("postgresql://v@h/erp", None),
        ("postgresql://u:given@h/erp", None),
    ],
)
def test_a_password_file_is_read_as_libpq_reads_it(tmp_path: Path, dsn: str, password: str | None) -> None:
    file = tmp_path / "pgpass"
    file.write_text(
        "# comment\nh:6000:*:u:other port\nh:5432:erp:u:col\\:on\\\\back 快\nlocalhost:*:*:u:socket\n",
        "utf-8",
    )
    file.chmod(0o600)
    dsn += f"{'&' if '?' in dsn else '?'}passfile={file}"
    assert password_for(dsn) == password
    file.chmod(0o644)
    assert password_for(dsn) is None


def taken_by_the_driver(dsn: str) -> None:
    """Have the driver parse the address as it does before it connects, once for each host."""
    address = for_driver(dsn)
    for one in each_host(address.dsn):
        password_for(one)
        connect_utils._parse_connect_dsn_and_args(  # type: ignore[attr-defined]
            dsn=one, host=None, port=None, user=None, password=None, passfile=None, database=None,
            ssl=address.arguments.get("ssl"), service=None, servicefile=None, direct_tls=None, server_settings=None,
            target_session_attrs=None, krbsrvname=None, gsslib=None,
        )  # fmt: skip


HOSTS = st.lists(
    st.sampled_from(
        [
            "",
            "h",
            "h:1",
            "h:0",
            "h:99999",
            "a..b",
            "h:",
            "[::1]",
            "[::1]:5",
            "[::",
            "::1",
            "%2Frun",
            "%2Frun:5",
            "²",
            "*",
            "/x",
        ]
    ),
    max_size=3,
).map(",".join)
PORTS = st.lists(st.sampled_from(["", "5432", "0", "70000", "²", "x", "-1", " 1"]), max_size=3).map(",".join)
OTHERS = st.sampled_from(
    [
        "connect_timeout=²", "connect_timeout=00", "connect_timeout=999999999999", "sslrootcert=system",
        "sslcert=/dev/null",
        f"sslrootcert=system&sslcert={__file__}", "service=x", "application_name=%FF", "options=-c", "user=%C3%A4",
        "passfile=", "host=/run/a:b", "sslmode=require&sslrootcert=", "requiressl=1&sslmode=disable",
    ]
)  # fmt: skip


@given(
    HOSTS, st.lists(st.one_of(HOSTS.map("host={}".format), PORTS.map("port={}".format), OTHERS), max_size=3)
)
def test_an_address_is_refused_or_the_driver_understands_it(hosts: str, parameters: list[str]) -> None:
    dsn = f"postgresql://u:p@{hosts}/erp?{'&'.join(parameters)}"
    if problem(dsn) is None:
        taken_by_the_driver(dsn)


@given(st.text(st.characters(), max_size=40))
def test_no_text_makes_it_fail_or_is_shown(text: str) -> None:
    for dsn in (text, f"postgresql://{text}", f"postgresql://u:{text}@h/erp", f"postgresql://h/erp?{text}"):
        found = problem(dsn)
        if found is None:
            taken_by_the_driver(dsn)
        else:
            assert re.match(r"(is|has|\w+:) ", found) or dsn.endswith(text)
