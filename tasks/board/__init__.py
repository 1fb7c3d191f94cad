"""What the pages show, computed: cards, history, Markdown, colours."""
