"""Names, addresses and proxies on the way to the engine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from owlclaw_up.checks.base import UP, Check, Evidence, Seen, ok
from owlclaw_up.facts import EnvPlaces
from owlclaw_up.facts.dotenv import SHELL, meant
from owlclaw_up.facts.network import LOCALHOST, host_in
from owlclaw_up.facts.place import engine_place
from owlclaw_up.facts.tokens import TOKEN_KEYS, dials
from owlclaw_up.facts.values import EnvPlace
from owlclaw_up.host.base import on_this_machine
from owlclaw_up.model import Finding, found

_LOOPBACK = "127.0.0.1"
_EXCEPTED = f"{LOCALHOST},{_LOOPBACK}"
_PROXY_WHY = "a proxy does not reach a loopback of yours: gRPC says UNAVAILABLE, and no word of a proxy"
_HOSTS_LOOK = "grep -n localhost /etc/hosts"
_HOSTS_LINE = f"echo '{_LOOPBACK} {LOCALHOST}' | sudo tee -a /etc/hosts"


def proxy_finding(proxies: Mapping[str, str], host: str = LOCALHOST) -> Finding | None:
    """What catches the calls of a program to the engine; None where nothing does. `up` and the doctor say the same.

    Args:
        proxies: the variables by name, empty ones too.
    """
    grpc, http = grpc_proxy(proxies, host), http_proxy(proxies, host)
    if not grpc and not http:
        return None
    what = [*(["your worker's gRPC"] if grpc else []), *(["HTTP"] if http else [])]
    title = f"{' and '.join(dict.fromkeys(n for n in (grpc, http) if n))} will catch {' and '.join(what)} to {host}"
    detail = "owlclaw-up itself asks no proxy for loopback"
    blind = _what_grpc_overlooks(proxies, host) if grpc else ""
    return Finding(
        "network.proxy", "warn", title, f"{blind}; {detail}" if blind else detail,
        "except it from the proxy, in small letters: gRPC reads no others", _exception(proxies, bool(grpc), bool(http)),
    )  # fmt: skip


def grpc_proxy(proxies: Mapping[str, str], host: str) -> str:
    """The variable whose proxy gRPC would take to a host; empty where it goes there itself.

    Small letters only, and the first one that is set, even empty, decides: grpc, http_proxy_mapper.cc; tried with 1.85.
    """
    name = next((n for n in ("grpc_proxy", "https_proxy", "http_proxy") if n in proxies), "")
    # Of any other scheme it says on stderr that it cannot, and goes there itself.
    if not name or not proxies[name].startswith("http://"):
        return ""
    return "" if _is_in(proxies.get("no_grpc_proxy", proxies.get("no_proxy", "")), host) else name


def http_proxy(proxies: Mapping[str, str], host: str) -> str:
    """The variable whose proxy httpx and urllib would take to a plain http:// address; empty where they go there themselves.

    Both letters, the small ones first, and an empty one takes the other away: urllib.request.getproxies_environment.
    """
    names = [_of_either(proxies, "http_proxy"), _of_either(proxies, "all_proxy")]
    name = next((n for n in names if proxies.get(n)), "")
    exceptions = proxies.get(_of_either(proxies, "no_proxy"), "")
    return "" if exceptions.strip() == "*" or _is_in(exceptions, host) else name


def _of_either(proxies: Mapping[str, str], name: str) -> str:
    return name if name in proxies else name.upper()


def _is_in(exceptions: str, host: str) -> bool:
    """Whether a list of exceptions has a host: itself, a domain above it, or for an address its network."""
    for entry in (e.strip().lower().lstrip(".") for e in exceptions.split(",")):
        if entry and (host == entry or host.endswith(f".{entry}") or _is_in_network(host, entry)):
            return True
    return False


def _is_in_network(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _what_grpc_overlooks(proxies: Mapping[str, str], host: str) -> str:
    """The exception that somebody made, and that does not count for gRPC."""
    if "no_grpc_proxy" in proxies and _is_in(proxies.get("no_proxy", ""), host):
        return "no_grpc_proxy takes the place of no_proxy"
    if proxies.get("no_proxy", "").strip() == "*":
        return "gRPC knows no * in no_proxy"
    return "gRPC does not read NO_PROXY" if _is_in(proxies.get("NO_PROXY", ""), host) else ""


def _exception(proxies: Mapping[str, str], grpc: bool, http: bool) -> str:
    """The command that excepts loopback, and keeps what is excepted already."""
    everything = proxies.get(_of_either(proxies, "no_proxy"), "").strip() == "*"
    names = ["no_grpc_proxy"] if grpc and ("no_grpc_proxy" in proxies or everything) else []
    if http or (grpc and not names):
        names.append("no_proxy")
    words = []
    for name in names:
        before = next((n for n in (name, name.upper()) if proxies.get(n)), "")
        words.append(f'{name}="${before},{_EXCEPTED}"' if before else f"{name}={_EXCEPTED}")
    return f"export {' '.join(words)}"


def _proxy(evidence: Evidence) -> Iterator[Seen]:
    if not evidence.with_engine or not dials_here(_grpc_address(evidence)):
        return
    finding = proxy_finding(found(evidence.facts.proxies) or {})
    if finding is None:
        yield ok("no proxy comes between programs and the engine")
    else:
        yield Seen(finding.level, finding.title, finding.detail, finding.hint, finding.command)


def dials_here(grpc_address: str) -> bool:
    """Whether programs call an engine at a loopback, to which no proxy must come between."""
    return on_this_machine(grpc_address.rpartition(":")[0].strip("[]"))


def _grpc_address(evidence: Evidence) -> str:
    if evidence.spec is not None and evidence.spec.engine is not None:
        return evidence.spec.grpc_address
    place = engine_place(evidence.ledger)
    return place.grpc_address if place is not None else f"{LOCALHOST}:0"


def _elsewhere(evidence: Evidence) -> set[str]:
    """The hosts of an engine that is not ours, of which `remote.reach` speaks."""
    place = engine_place(evidence.ledger)
    if place is None or not place.elsewhere:
        return set()
    return {place.grpc_address.rpartition(":")[0].strip("[]"), urlsplit(place.server_url).hostname or ""}


def _localhost(evidence: Evidence) -> Iterator[Seen]:
    look = (found(evidence.facts.names) or {}).get(LOCALHOST)
    if look is None:
        return
    if look.error:
        yield Seen(
            "fail", "localhost does not resolve here", look.error, f"put it back: {_HOSTS_LINE}", _HOSTS_LINE
        )  # fmt: skip
        return
    strange = [address for address in look.addresses if not on_this_machine(address)]
    if strange:
        yield Seen(
            "fail", f"localhost means {', '.join(strange)} here, and not {_LOOPBACK}",
            f"the engine listens on {_LOOPBACK}", f"take it out of that line: {_HOSTS_LOOK}", _HOSTS_LOOK,
        )  # fmt: skip
    elif _LOOPBACK not in look.addresses:
        yield Seen(
            "fail", f"localhost means {', '.join(look.addresses)} here, and not {_LOOPBACK}",
            f"the engine listens on {_LOOPBACK}", f"say so in /etc/hosts: {_HOSTS_LINE}", _HOSTS_LINE,
        )  # fmt: skip
    else:
        yield ok(f"localhost is {', '.join(look.addresses)}")


def _names(evidence: Evidence) -> Iterator[Seen]:
    looks, places = found(evidence.facts.names), found(evidence.facts.shadows)
    if looks is None or places is None or not evidence.standing:
        return
    names = evidence.settings.env_names.value
    token_keys = {names.get(key, key) for key in TOKEN_KEYS}
    lost: dict[str, list[EnvPlace]] = {}
    for place in effective(places).values():
        host = host_in(meant(place.key), place.value.reveal(), names)
        # The claim counts only where nothing else says where to dial.
        unread = place.key in token_keys and dials(places, names).host_port
        if host not in (LOCALHOST, *_elsewhere(evidence)) and host in looks and looks[host].error and not unread:
            lost.setdefault(host, []).append(place)
    for host, read in lost.items():
        yield _lost(host, read, looks[host].error, places)
    if not lost:
        others = [host for host in looks if host != LOCALHOST]
        yield ok(f"every other name resolves: {', '.join(others)}" if others else "programs are given localhost alone")


def effective(places: EnvPlaces) -> dict[str, EnvPlace]:
    """By key, the place whose value a program gets."""
    strongest = {meant(place.key): place for place in reversed(places.over)}
    return {**{meant(place.key): place for place in places.written}, **strongest}


def _lost(host: str, read: list[EnvPlace], error: str, places: EnvPlaces) -> Seen:
    keys = ", ".join(dict.fromkeys(place.key for place in read))
    title = f"{host} in {keys} ({read[0].text}) does not resolve here"
    inside = "; it is a name inside of containers" if host.endswith(("docker.internal", "containers.internal")) else ""
    shell = [place.key for place in read if place.where == SHELL]
    strange = [place for place in read if place not in places.written and place.where != SHELL]
    if shell:
        command = hint = f"unset {' '.join(shell)}"
    elif strange:
        command, hint = "", f"remove line {strange[0].line} of {strange[0].where}"
    else:
        command, hint = UP, f"{UP} (it writes its own values over them)"
    return Seen("fail", title, error + inside, hint, command)


CHECKS: tuple[Check, ...] = (
    Check(
        "network.proxy", "no proxy catches calls to the engine",
        "`HTTP proxy handshake ... failed`, or plain `UNAVAILABLE`, while curl works",
        "http_proxy and the like are set, and loopback is not excepted in a way that gRPC reads", _PROXY_WHY,
        f"export no_proxy={_EXCEPTED}", _proxy, ("proxies",),
    ),
    Check(
        "network.localhost", "localhost is 127.0.0.1",
        "`Name or service not known`, or `Connection refused` from programs while `status` says that everything runs",
        "a line is missing in /etc/hosts, or says something else",
        "every address that programs are given begins with localhost", _HOSTS_LINE, _localhost, ("names",),
    ),
    Check(
        "network.names", "the names in the programs' variables resolve here",
        "`Name resolution failed for target dns:host.docker.internal:17077`",
        "an address that is good inside of a container, or on another machine, stands in a variable or a token",
        "a program dials the name that it is given", f"{UP}, or unset the variable that is named", _names,
        ("names", "shadows"), ("network.localhost", "postgres.reach", "remote.reach"),
    ),
)  # fmt: skip
