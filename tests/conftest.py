"Data that lies beside the checkout on some machines, and the rule that CI never skips what it could test."
import os
from pathlib import Path

import pytest, torch

torch.set_num_threads(1) # the models here are tiny: a second thread brings nothing, and on a busy machine each product waits for it (a study of 28 rows: 257 s, with one thread 19 s)

SHARED = Path(__file__).resolve().parents[2]/'shared'/'data'
CI = bool(os.environ.get('CI'))

@pytest.fixture(scope='session')
def shared_data():
    "The folder ../shared/data beside the checkout; where it is missing the test is skipped"
    if not SHARED.is_dir(): pytest.skip('there is no ../shared/data beside this checkout')
    return SHARED

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "Under CI a skip fails where the thing that the test needs is there"
    report = (yield).get_result()
    if CI and report.skipped and 'shared_data' in getattr(item, 'fixturenames', ()) and SHARED.is_dir():
        report.outcome = 'failed'
        report.longrepr = f'{item.nodeid} was skipped under CI although ../shared/data is there: {report.longrepr[-1]}'
