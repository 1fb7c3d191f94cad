"""Colours for code that a page shows."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST
from pydantic import BaseModel, Field, ValidationError

from tasks.board import highlight

BLOCKS = 2_000
LINES = 50_000


class Code(BaseModel):
    """Blocks of lines that belong together; `file` says the language."""

    file: str = Field(max_length=4096)
    blocks: list[list[str]] = Field(max_length=BLOCKS)


@login_required
@require_POST
def colour(request: HttpRequest) -> JsonResponse:
    """{blocks: for each block, for each line, [[kind, length], …]}: see tasks/board/highlight.py."""
    try:
        code = Code.model_validate_json(request.body)
    except ValidationError as error:
        return JsonResponse({"detail": str(error)}, status=422)
    if sum(len(block) for block in code.blocks) > LINES:
        return JsonResponse({"detail": f"More than {LINES} lines."}, status=422)
    return JsonResponse({"blocks": [highlight.tokens(code.file, block) for block in code.blocks]})
