"""Prints a line for each task, as the other clients do."""

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "steps"

    def v2_runner_on_ok(self, result, **_):
        print(f"ok   ansible: {result.task_name}")

    def v2_runner_on_failed(self, result, ignore_errors=False, **_):
        if ignore_errors:
            return
        answer = result.result
        text = answer.get("msg") or answer.get("exception") or answer
        print(f"FAIL ansible: {result.task_name}: {text}")

    def v2_runner_on_unreachable(self, result):
        print(f"FAIL ansible: {result.task_name}: unreachable")
