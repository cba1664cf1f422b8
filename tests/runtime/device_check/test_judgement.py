"""Which engines must stay here."""

from dataclasses import replace

from edgedetr.runtime.device_check.judgement import fastest, passed, without_slow_int8


def test_the_fastest_has_no_problem_and_the_lowest_p99(model_check):
    slow, fast = model_check("fp16"), model_check("int8", p99_ms=4.5)
    assert fastest([slow, fast]) == "int8"
    assert fastest([slow, replace(fast, problems=("differs",))]) == "fp16"
    assert fastest([replace(slow, check=None)]) is None


def test_int8_ships_only_where_it_is_faster(model_check):
    fp32, fp16 = model_check("fp32", p99_ms=9.0), model_check("fp16", p99_ms=5.0)
    fast, slow = model_check("int8", p99_ms=4.9), model_check("int8", p99_ms=5.0)
    assert without_slow_int8([fp32, fp16, fast]) == [fp32, fp16, fast]
    *others, judged = without_slow_int8([fp32, fp16, slow])
    assert others == [fp32, fp16]
    assert judged.problems == (
        "INT8 does not pay here: p99 at the rate 5.00 ms, that of fp16 5.00; pack it without the "
        "INT8 model",
    )
    *_, judged = without_slow_int8([fp16, model_check("fp8", p99_ms=5.0)])
    assert judged.problems[0].startswith("FP8 does not pay here: p99 at the rate 5.00 ms")


def test_nothing_to_compare_int8_with(model_check):
    broken = replace(model_check("fp16", p99_ms=1.0), problems=("differs",))
    file = model_check("m", p99_ms=1.0, precision="")
    for other in (broken, file):
        models = [other, model_check("int8", p99_ms=5.0)]
        assert without_slow_int8(models) == models


def test_none_may_have_a_problem(model_check):
    good = model_check("fp16")
    assert passed([good])
    assert not passed([good, replace(good, problems=("differs",))])
    assert not passed([])
