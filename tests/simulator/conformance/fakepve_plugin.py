"""A pytest plugin that lets fakepve's own tests meet the simulator instead of fakepve.

The tests are not changed. Where they make a `FakePve`, they get the class below, which starts the simulator and puts the
guests, users and storages they ask for there through its API. A test that reaches for anything of fakepve that is not
on the wire is not applicable, and says which.
"""

import json
import os
import re
import ssl
import subprocess
import tomllib
import urllib.error
import urllib.parse
import urllib.request

import fakepve
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TRUST_NOBODY = ssl.create_default_context()
TRUST_NOBODY.check_hostname = False
TRUST_NOBODY.verify_mode = ssl.CERT_NONE


def not_applicable(why):
    pytest.skip('not applicable: ' + why)


class Api:
    """Sets up and looks at the simulator from the side."""

    def __init__(self, url, password):
        self.url, self.headers = url + '/api2/json', {}
        ticket = self.call('POST', '/access/ticket', {'username': 'root@pam', 'password': password})
        self.headers = {'Cookie': 'PVEAuthCookie=' + ticket['ticket'],
                        'CSRFPreventionToken': ticket['CSRFPreventionToken']}

    def call(self, method, path, form=None):
        data = urllib.parse.urlencode(form, doseq=True).encode() if form else None
        if method in ('GET', 'DELETE') and data:
            path, data = path + '?' + data.decode(), None
        request = urllib.request.Request(self.url + path, data, self.headers, method=method)
        with urllib.request.urlopen(request, context=TRUST_NOBODY) as answer:
            return json.load(answer)['data']

    def setup(self, method, path, form=None):
        """What a test puts there before it starts; a task has to go well."""
        try:
            answer = self.call(method, path, form)
        except urllib.error.HTTPError as error:
            not_applicable('builds what no server takes: {0} {1}: {2}'.format(method, path, error.reason))
        if isinstance(answer, str) and answer.startswith('UPID:'):
            task = self.task(answer)
            if task['exitstatus'] != 'OK':
                not_applicable('builds what no server takes: {0}'.format(task['exitstatus']))
        return answer

    def task(self, upid):
        node = upid.split(':')[1]
        return self.call('GET', '/nodes/{0}/tasks/{1}/status'.format(node, upid))


class Guest:
    """A guest, seen through the API."""

    def __init__(self, api, kind, vmid, node):
        self.__dict__.update(_api=api, _kind=kind, vmid=vmid, node=node)

    @property
    def _path(self):
        return '/nodes/{0}/{1}/{2}'.format(self.node, self._kind, self.vmid)

    def __getattr__(self, name):
        get = lambda path, form=None: self._api.call('GET', self._path + path, form)
        if name in ('status', 'name', 'lock', 'qmpstatus', 'template'):
            return get('/status/current').get(name)
        if name == 'config':
            return {k: Text(v) for k, v in get('/config', {'current': 1}).items() if k != 'digest'}
        if name == 'pending':
            rows = [row for row in get('/pending') if 'pending' in row or 'delete' in row]
            return {row['key']: Text(row['pending']) if 'pending' in row else None for row in rows}
        if name == 'pool':
            rows = self._api.call('GET', '/cluster/resources', {'type': 'vm'})
            return next(row.get('pool') for row in rows if row['vmid'] == self.vmid)
        if name == 'snapshots':
            return {row['name']: row for row in get('/snapshot') if row['name'] != 'current'}
        not_applicable("looks into a guest of the fake's ({0})".format(name))

    def __setattr__(self, name, value):
        if name == 'agent' and value == {}:
            self._api.setup('PUT', self._path + '/config', {'agent': 1})
        elif name == 'status' and value in ('running', 'stopped'):
            self._api.setup('POST', self._path + '/status/' + ('start' if value == 'running' else 'stop'))
        else:
            not_applicable("changes a guest of the fake's by hand ({0})".format(name))


class Text(str):
    """A value of a configuration, which is a text however it came; the fake remembers some as numbers."""

    def __eq__(self, other):
        return str(self) == str(other)

    __hash__ = str.__hash__


class Mapping(dict):
    """A dictionary of the fake's, in which the test sets entries."""

    def __missing__(self, key):
        not_applicable("reaches into the fake's memory")

    def __init__(self, entries, put):
        super().__init__(entries)
        self.put = put

    def __setitem__(self, key, value):
        self.put(key, value)
        super().__setitem__(key, value)


class Tasks:
    def __init__(self, api):
        self.api = api

    def __getitem__(self, upid):
        task = self.api.task(upid)
        path = '/nodes/{0}/tasks/{1}/log'.format(task['node'], upid)
        task['log'] = [row['t'] for row in self.api.call('GET', path, {'limit': 0})]
        return task


class Simulated:
    """What fakepve.FakePve is for a test."""

    def __init__(self, user='root@pam', password='secret', host=None, port=None):
        if user != 'root@pam' or not isinstance(password, str):
            not_applicable('the administrator has another name')
        self.__dict__.update(host='127.0.0.1', port=None, password=password, _process=None, _api=None, _admins=[], _free=True)

    @property
    def url(self):
        return 'https://{0}:{1}'.format(self.host, self.port)

    async def start(self, certfile, keyfile):
        command = [os.environ['SIMULATOR'], '--listen', '127.0.0.1:0', '--time-factor', '0', '--password', self.password]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.__dict__['_process'] = process
        found = re.search(r' simulated at https://[^:]+:(\d+)$', process.stdout.readline().rstrip())
        if not found:
            raise RuntimeError('the simulator does not come up')
        self.__dict__['port'] = int(found.group(1))
        self.__dict__['_api'] = Api(self.url, self.password)
        # The fake believes in every template; these are those the tests name.
        for name in ('debian-12-standard_12.2-1_amd64.tar.zst', 'ubuntu-24.04-standard_24.04-2_amd64.tar.zst'):
            self._api.setup('POST', '/nodes/pve1/storage/local/download-url', {
                'content': 'vztmpl', 'filename': name, 'url': 'https://example.org/' + name})

    async def stop(self):
        if self._process:
            self._process.terminate()
            self._process.communicate()

    def add_vm(self, vmid, name, node='pve1', status='stopped', config=None, **more):
        return self._add('qemu', vmid, dict(config or {}, name=name), node, status, more)

    def add_ct(self, vmid, name, node='pve1', status='stopped', config=None, **more):
        settings = {'hostname': name, 'ostemplate': 'local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst'}
        # A server has to be told where the root file system goes.
        config = dict({'rootfs': 'local-lvm:4'}, **(config or {}))
        return self._add('lxc', vmid, dict(config, **settings), node, status, more)

    def _add(self, kind, vmid, settings, node, status, more):
        if node != 'pve1':
            not_applicable('has a second node')
        for name in more:
            if more[name] and name != 'template':
                not_applicable("builds a guest by the fake's memory ({0})".format(name))
        self._api.setup('POST', '/nodes/pve1/' + kind, dict(settings, vmid=vmid))
        guest = Guest(self._api, kind, vmid, node)
        if more.get('template'):
            self._api.setup('POST', guest._path + '/template')
        if status == 'running':
            guest.status = status
        elif status != 'stopped':
            not_applicable('has a guest that is ' + status)
        return guest

    def _find(self, kind, vmid):
        rows = self._api.call('GET', '/cluster/resources', {'type': 'vm'})
        rows = [row for row in rows if row['type'] == kind and (vmid is None or row['vmid'] == vmid)]
        return [Guest(self._api, kind, row['vmid'], row['node']) for row in rows]

    def vm(self, vmid):
        return next(iter(self._find('qemu', vmid)), None)

    def ct(self, vmid):
        return next(iter(self._find('lxc', vmid)), None)

    def grant(self, user, path, *privileges):
        # With the first grant of fakepve everybody else loses what they were allowed to do until then.
        for admin in self._admins:
            self._api.setup('PUT', '/access/acl', {'path': '/', 'users': admin, 'roles': 'Administrator', 'delete': 1})
        del self._admins[:]
        self.__dict__['_free'] = False
        role = 'Role{0}'.format(len(self._api.call('GET', '/access/roles')))
        self._api.setup('POST', '/access/roles', {'roleid': role, 'privs': ','.join(privileges)})
        self._api.setup('PUT', '/access/acl', {'path': path, 'users': user, 'roles': role})

    def __getattr__(self, name):
        api = self._api
        if name == 'vms' or name == 'cts':
            return self._find('qemu' if name == 'vms' else 'lxc', None)
        if name == 'tasks':
            return Tasks(api)
        if name == 'users':
            def put(user, password):
                form = {'userid': user, 'password': password}
                api.setup('POST', '/access/users', form)
                if self._free:
                    self._admins.append(user)
                    api.setup('PUT', '/access/acl', {'path': '/', 'users': user, 'roles': 'Administrator'})
            return Mapping({}, put)
        if name == 'pools':
            members = {}
            for pool in api.call('GET', '/pools'):
                rows = api.call('GET', '/pools', {'poolid': pool['poolid']})[0]['members']
                members[pool['poolid']] = {row['vmid'] for row in rows if 'vmid' in row}
            return Mapping(members, lambda pool, _: api.setup('POST', '/pools', {'poolid': pool}))
        if name == 'storages':
            def put(storage, options):
                known = {k: v for k, v in options.items() if k in ('type', 'content', 'path', 'vgname', 'thinpool')}
                api.setup('POST', '/storage', dict(known, storage=storage))
            return Mapping({}, put)
        not_applicable("uses what is not on the wire: FakePve.{0}".format(name))

    def __setattr__(self, name, value):
        not_applicable("turns a switch of the fake's: FakePve.{0}".format(name))


async def settle():
    """Nothing to wait for: the simulator ends as a process."""


fakepve.FakePve, fakepve.settle = Simulated, settle


def pytest_addoption(parser):
    parser.addoption('--differences', default=os.path.join(HERE, 'fakepve.toml'))


class Count:
    def __init__(self, differences):
        with open(differences, 'rb') as file:
            self.known = {test: why for why, tests in tomllib.load(file).items() for test in tests}
        self.met, self.ran = set(), set()
        self.passed, self.different, self.aside, self.wrong = 0, {}, {}, []


def pytest_configure(config):
    config.count = Count(config.getoption('--differences'))


def pytest_collection_modifyitems(items):
    for item in items:
        if 'api' not in item.fixturenames and 'session' not in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason="not applicable: asks no server"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    count, name = item.config.count, item.path.stem + ' ' + item.originalname
    if report.skipped:
        why = str(call.excinfo.value) if call.excinfo else report.longrepr[2]
        why = re.sub(r'^(Skipped: )?not applicable: ', '', why).split(':')[0]
        count.aside[why] = count.aside.get(why, 0) + 1
    elif call.when == 'call' or report.failed:
        known = count.known.get(name)
        if report.passed:
            count.passed += 1
        elif known:
            count.met.add(name)
            count.different[known] = count.different.get(known, 0) + 1
            report.outcome, report.wasxfail = 'skipped', known
        else:
            count.wrong.append(item.path.stem + ' ' + item.name)
    return report


def pytest_terminal_summary(terminalreporter, config):
    count, say = config.count, terminalreporter.write_line
    stale = [name for name in count.known if name not in count.met]
    for name in count.wrong + [name + ' (differs no more)' for name in stale]:
        say('FAIL fakepve: ' + name)
    for heading, counts in (('differs', count.different), ('not applicable', count.aside)):
        for why, number in sorted(counts.items(), key=lambda pair: -pair[1]):
            say('{0}, {1}: {2}'.format(number, heading, why))
    say('{0} tests of fakepve passed, {1} differ, {2} not applicable'.format(
        count.passed, sum(count.different.values()), sum(count.aside.values())))


def pytest_sessionfinish(session):
    count = session.config.count
    if count.wrong or any(name not in count.met for name in count.known):
        session.exitstatus = 1
