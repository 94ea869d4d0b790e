"""A client of the gRPC services in Python, step by step. Reads GRPC_PORT, PVE_TOKEN and PVE_CA_FILE."""

import os
import sys

import grpc
from gpve.v1 import gpve_pb2 as pb
from gpve.v1 import gpve_pb2_grpc as services

passed = failed = 0
with open(os.environ['PVE_CA_FILE'], 'rb') as file:
    credentials = grpc.ssl_channel_credentials(file.read())
channel = grpc.secure_channel('localhost:' + os.environ['GRPC_PORT'], credentials)
guests = services.GuestServiceStub(channel)
operations = services.OperationServiceStub(channel)
cluster = services.ClusterServiceStub(channel)
login = {'metadata': [('authorization', 'PVEAPIToken=' + os.environ['PVE_TOKEN'])], 'timeout': 30}


def step(name):
    def run(check):
        global passed, failed
        try:
            check()
        except Exception as error:  # a step may fail in any way
            failed += 1
            print('FAIL grpcio: {0}: {1}: {2}'.format(name, type(error).__name__, error))
        else:
            passed += 1
            print('ok   grpcio: {0}'.format(name))

    return run


def done(operation):
    ended = operations.Wait(pb.WaitOperationRequest(name=operation.name), **login)
    assert ended.done and not ended.error, ended


def code(call, message, **how):
    try:
        call(message, **how)
    except grpc.RpcError as error:
        return error.code()
    return None


@step('the nodes are listed')
def _():
    assert cluster.ListNodes(pb.ListNodesRequest(), **login).nodes


@step('a guest is made, watched and started')
def _():
    disk = pb.DiskConfig(storage='local-lvm', size='32G')
    order = pb.CreateGuestRequest(name='test-vm', cores=4, memory=8192, disks=[disk])
    made = guests.Create(order, **login)
    done(made.operation)
    watch = guests.WatchStatus(pb.WatchStatusRequest(vmid=made.vmid), **login)
    assert next(watch).state == 'stopped'
    done(guests.Start(pb.StartGuestRequest(vmid=made.vmid), **login))
    assert next(watch).state == 'running'
    watch.cancel()


@step('errors have codes')
def _():
    nobody = {'timeout': 30}
    assert code(guests.Get, pb.GetGuestRequest(vmid=1), **nobody) == grpc.StatusCode.UNAUTHENTICATED
    assert code(guests.Get, pb.GetGuestRequest(vmid=999), **login) == grpc.StatusCode.NOT_FOUND


@step('a deadline ends a call')
def _():
    short = dict(login, timeout=0.3)
    watch = guests.WatchStatus(pb.WatchStatusRequest(vmid=100), **short)
    assert code(lambda _: list(watch), None) == grpc.StatusCode.DEADLINE_EXCEEDED


print('{0} passed, {1} failed'.format(passed, failed))
sys.exit(failed > 0)
