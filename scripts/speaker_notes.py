"""Print the speaker notes of all notebooks as one page of Markdown: python -m scripts.speaker_notes > notes.md"""

import sys

from helpers.show import notes_page

if __name__ == "__main__":
    sys.stdout.write(notes_page())
