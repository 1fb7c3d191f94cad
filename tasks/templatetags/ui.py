"""Template tags of the design system."""

from django import template
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks.board.modules import imports_of

register = template.Library()


@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    """A picture of the sprite tasks/icons.svg, drawn in the text's colour and hidden from screen readers."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        extra,
        static("tasks/icons.svg"),
        name,
    )


@register.filter
def hue(word: str) -> int:
    """A hue (0 to 330 degrees) that stays with the word; dom.js computes the same."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(word)) * 37 % 12 * 30


@register.filter
def initials(name: str) -> str:
    words = [word for word in name.replace(".", " ").replace("_", " ").replace("-", " ").split() if word]
    return "".join(word[0] for word in words[:2]) or "?"


@register.simple_tag
def module(path: str) -> SafeString:
    """The script element of a module, and hints for the modules that it imports: one round trip instead of many."""
    hints = format_html_join(
        "\n", '<link rel="modulepreload" href="{}">', ((static(name),) for name in imports_of(path))
    )
    return format_html('{}\n<script type="module" src="{}"></script>', hints, static(path))
