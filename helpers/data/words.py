"""The words of a text that carry its meaning: sentences, stems, and words of like meaning made one.

Crude on purpose: a reader must see in a minute why two texts count as alike.
"""

import re
from collections import defaultdict

ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|approx|Inc|No|St|incl|resp|U\.S|a\.k\.a|[A-Z])\.$")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])|(?<=[a-z)]\.)(?=(?:For|To|This|You|The|If|See)\b)")
_NO_VERBS = """
this these as always its is has does was works requires represents contains indicates supports details
settings contacts customers users values properties services resources results metrics parameters
organizations kinesis secrets attributes references
"""
_STOP_WORDS = """
a an the of to in on for from by with and or as at is are be it its that this these those which you your can
one more all any each existing new specified given specific provided request information detail about into
within associated current using use used api operation action aws amazon service resource account has have
been was permanently previously currently paginated page summary summaries description
"""
NO_VERBS, STOP_WORDS = frozenset(_NO_VERBS.split()), frozenset(_STOP_WORDS.split())
ACTIONS = {  # stems of like meaning: the same list serves the verbs of names and the words of texts
    "read": "get list describ retriev return view display fetch search find lookup read provid show query",
    "create": "creat add put register start launch generat initiat import provision allocat issu run begin",
    "update": "updat modify chang edit set put configur replac alter reset",
    "delete": "delet remov deregister terminat purg destroy untag revok",
    "stop": "stop cancel terminat abort end paus",
    "attach": "associat attach assign link join",
    "detach": "disassociat detach unassign unlink",
}
ACTIONS_OF = defaultdict(frozenset)  # stem -> its actions: put creates and updates
for _action, _stems in ACTIONS.items():
    for _stem in _stems.split():
        ACTIONS_OF[_stem] |= {_action}


def sentences(text):
    """Plain text -> list of sentences; a full stop after an abbreviation such as 'e.g.' ends none."""
    found = []
    for part in SENTENCE_END.split(text):
        if found and ABBREVIATION.search(found[-1]):
            found[-1] += " " + part
        else:
            found.append(part)
    return found


def stem(word):
    """A crude stem, enough to match creates, created, creating and create, or policies and policy."""
    word = re.sub(r"ies$", "y", word.lower())
    return word if word.endswith("ss") else re.sub(r"(?<=[a-z]{3})(ing|ed|es|s|e)$", "", word)


def content_words(text):
    """The set of stems that carry meaning, words of like action made one."""
    stems = (stem(word) for word in re.findall(r"[A-Za-z0-9]+", text) if word.lower() not in STOP_WORDS)
    return frozenset(min(ACTIONS_OF.get(s, (s,))) for s in stems)
