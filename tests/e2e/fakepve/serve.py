"""Serves fakepve with the guests and faults of guests.json for tests/fakepve.rs.

    python serve.py FOLDER

Writes the servers' certificate and a file `environment` with what the tests need into FOLDER, the latter once
the servers listen, and serves until it is told to end. Besides the one with the guests there is one for each kind of
trouble that concerns a whole server.
"""

import asyncio
import json
import os
import pathlib
import secrets
import shlex
import signal
import sys

from fakepve import FakePve
from fakepve.certs import make_cert

HOST = "127.0.0.1"


def populate(pve, description):
    for guest in description["guests"]:
        options = {key: guest[key] for key in ("node", "status", "config", "lock") if key in guest}
        add = pve.add_ct if guest.get("type") == "lxc" else pve.add_vm
        made = add(guest["vmid"], guest["name"], **options)
        for key in ("start_secs", "shutdown_secs", "start_error"):
            if key in guest:
                setattr(made, key, guest[key])
    token = description["token"]
    pve.apitokens[token["id"]] = token["secret"]
    slow = description["slow"]
    pve.slow_network(slow["seconds"], node=slow["node"])
    pve.add_node(description["offline"], online=False)
    for fault in description["faults"]:
        method, path, how = fault["method"], fault["path"], fault["how"]
        pve.fail(method, path, **how)


def asks_for_a_second_factor(pve):
    pve.tfa = True


def lets_tickets_expire(pve):
    pve.ticket_ttl = 2


def drops_connections(pve):
    pve.flaky_network(drop_rate=1.0)


def never_answers(pve):
    pve.flaky_network(hang_rate=1.0, hang_secs=3600)


def reads_little(pve):
    pve.client_max_size = 64 * 1024


TROUBLE = {
    "TFA": asks_for_a_second_factor,
    "EXPIRY": lets_tickets_expire,
    "DROPS": drops_connections,
    "HANGS": never_answers,
    "SMALL": reads_little,
}


async def serve(folder):
    description = json.loads(pathlib.Path(__file__).with_name("guests.json").read_text())
    password = secrets.token_hex(12)
    pve = FakePve(password=password, host=HOST, port=0)
    pve.time_scale = 1.0
    populate(pve, description)
    certificate, key, _ = make_cert(str(folder), hosts=(HOST,))
    await pve.start(certificate, key)
    troubles = []
    variables = {
        "FAKEPVE_URL": pve.url,
        "FAKEPVE_CA_FILE": certificate,
        "FAKEPVE_PASSWORD": password,
        "FAKEPVE_TOKEN_ID": description["token"]["id"],
        "FAKEPVE_TOKEN_SECRET": description["token"]["secret"],
    }
    for name, make in TROUBLE.items():
        troubled = FakePve(password=password, host=HOST, port=0)
        make(troubled)
        await troubled.start(certificate, key)
        troubles.append(troubled)
        variables["FAKEPVE_" + name + "_URL"] = troubled.url
    unfinished = folder / "environment.new"
    unfinished.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    os.replace(unfinished, folder / "environment")
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    # The others end with the process: the one that never answers would be waited for.
    await pve.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    asyncio.run(serve(pathlib.Path(sys.argv[1])))
