"""The form of an executor: its argument lists must be lists of words."""

from typing import Any

from django import forms

from tasks.models import Executor


class ExecutorForm(forms.ModelForm):
    class Meta:
        model = Executor
        fields = ["name", "argv", "resume_argv", "output_format", "env", "enabled"]

    def clean_argv(self) -> list[str]:
        return _arguments(self.cleaned_data["argv"], least=1)

    def clean_resume_argv(self) -> list[str]:
        return _arguments(self.cleaned_data["resume_argv"] or [], least=0)

    def clean_env(self) -> list[str]:
        return _arguments(self.cleaned_data["env"] or [], least=0)


def _arguments(value: Any, least: int) -> list[str]:
    fits = isinstance(value, list) and all(isinstance(word, str) and "\x00" not in word for word in value)
    if not fits or len(value) < least or (value and not value[0]):
        raise forms.ValidationError(
            'Give a JSON list of words, program first: ["program", "--flag", "{prompt}"].'
        )
    return list(value)
