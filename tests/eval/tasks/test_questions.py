"""Questions of each task, from files of its format."""

from pathlib import Path

import pytest

from stairstream.core.errors import ConfigError
from stairstream.eval.tasks.questions import TASKS, TaskName, file_of

LINES: dict[TaskName, str] = {
    "gsm8k": '{"question": "1 + 1?", "answer": "#### 2"}',
    "mt-bench": '{"question_id": 81, "category": "writing", "turns": ["one?", "two?"]}',
    "alpaca-eval": '{"id": "a-1", "instruction": "Why?", "outputs": {"m": "So."}}',
    "arena-hard": '{"uid": "u", "prompt": "How?"}',
}


@pytest.mark.parametrize("name", LINES)
def test_each_task_reads_its_format_and_names_another(name: TaskName, tmp_path: Path) -> None:
    task = TASKS[name]
    (tmp_path / task.data.file).write_text(LINES[name])
    file = file_of(task, tmp_path)
    assert file_of(task, file) == file
    (question,) = task.read(file)
    assert len(question.turns) == (2 if name == "mt-bench" else 1)
    assert question.expected == ("#### 2" if name == "gsm8k" else "")
    file.write_text('{"other": 1}')
    with pytest.raises(ConfigError, match="line 1: "):
        task.read(file)
