from edgedetr.distill.training.silent_log import SilentLog


def test_it_knows_evaluations_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = SilentLog({0: {"ap": 0.1}})
    log.step(0, 0, {"loss": 1.0})
    log.evaluation(4, 1, {"ap": 0.2})
    log.close()
    assert log.evaluations == {0: {"ap": 0.1}, 1: {"ap": 0.2}}
    assert not list(tmp_path.iterdir())
