"""What jinja2 makes of a chat template, set up as `transformers` sets it up, and the conversations it is tried on."""

import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %}: a block with its own scope."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return env


def render(source, contexts):
    """The text for each context, None where jinja2 raises."""
    try:
        template = environment().from_string(source)
    except Exception:
        return [None] * len(contexts)
    texts = []
    for context in contexts:
        try:
            text = template.render(**context)
            text.encode()
            texts.append(text)
        except Exception:
            texts.append(None)
    return texts


def write_cases(path, contexts, sources):
    """A case file: what ChatTemplateGolden in chat_template_test.cc reads."""
    cases = [{"name": n, "source": s, "texts": render(s, contexts)} for n, s in sorted(sources.items())]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"contexts": contexts, "cases": cases}, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")
    return cases


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather \"now\" in a <city> & around",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "array", "items": {"type": "integer"}, "description": "Which days"},
                "exact": {"type": "boolean", "default": False},
                "place": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "lon": {"type": "number", "nullable": True}},
                    "required": ["lat"],
                },
            },
            "required": ["city"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}


def call(arguments, identifier="call00001"):
    function = {"name": "get_weather", "arguments": arguments}
    return {"type": "function", "id": identifier, "function": function}


def parts(text):
    return [{"type": "text", "text": text}]


SYSTEM = {"role": "system", "content": "You are terse. \n"}
HELLO = {"role": "user", "content": "Hello, wörld! 你好 <b>\n"}
ANSWER = {"role": "assistant", "content": " Hi! "}
MORE = {"role": "user", "content": "And 2+2?"}
THOUGHT = {"role": "assistant", "content": "<think>\nlet me see\n</think>\n\nIt is 4.\n"}
REASONED = {"role": "assistant", "reasoning_content": "hm\n", "content": "It is 4."}
ASKS = {"role": "assistant", "content": "", "tool_calls": [call({"city": "Kyōto", "days": [1, 2], "exact": True})]}
ASKS_NULL = {"role": "assistant", "content": None, "tool_calls": [call({"city": "Rome", "place": {"lat": 1.5}})]}
ASKS_TEXT = {"role": "assistant", "content": "Let me look.", "tool_calls": [call('{"city": "Oslo"}')]}
ASKS_TWO = {
    "role": "assistant",
    "content": "",
    "tool_calls": [call({"city": "A"}, "callAAAAA"), call({"city": "B", "unit": None}, "callBBBBB")],
}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"temperature": 21.0}'}
RESULT_A = {"role": "tool", "name": "get_weather", "tool_call_id": "callAAAAA", "content": "1e21"}
RESULT_B = {"role": "tool", "name": "get_weather", "tool_call_id": "callBBBBB", "content": parts("rain")}

CONVERSATIONS = [
    [],
    [HELLO],
    [SYSTEM, HELLO],
    [SYSTEM],
    [HELLO, ANSWER],
    [SYSTEM, HELLO, ANSWER, MORE],
    [HELLO, HELLO],
    [HELLO, THOUGHT, MORE],
    [HELLO, REASONED, MORE, REASONED],
    [{"role": "user", "content": parts("one") + parts("two")}],
    [{"role": "system", "content": parts("S")}, {"role": "user", "content": parts("U")},
     {"role": "assistant", "content": parts("A")}],
    [HELLO, ASKS, RESULT],
    [HELLO, ASKS_NULL, RESULT, {"role": "assistant", "content": "Warm."}, MORE],
    [SYSTEM, HELLO, ASKS_TEXT, RESULT],
    [SYSTEM, HELLO, ASKS_TWO, RESULT_A, RESULT_B, ANSWER],
    [{"role": "developer", "content": "D"}, HELLO],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": None}],
    [{"role": "user"}],
    [{"role": "narrator", "content": "?"}],
    [ANSWER, HELLO],
]


def contexts():
    """Every conversation with and without tools, and with and without the generation prompt."""
    made = []
    for conversation in CONVERSATIONS:
        for tools in (None, [WEATHER, CLOCK]):
            for generate in (False, True):
                context = {"messages": conversation, "add_generation_prompt": generate}
                context |= {"bos_token": "<s>", "eos_token": "</s>"}
                context["tools"] = tools
                if len(conversation) == 2:  # some callers leave them out
                    del context["tools"]
                made.append(context)
    special = {"messages": [SYSTEM, HELLO], "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
    for extra in ({"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True},
                  {"builtin_tools": ["code_interpreter", "search"]}, {"documents": [{"title": "T", "text": "x"}]},
                  {"tools": [WEATHER["function"]]}, {"tools": []}, {"date_string": "1 May 2026"},
                  {"tools_in_user_message": False, "tools": [WEATHER]}, {"reasoning_effort": "high"},
                  {"available_tools": [WEATHER], "controls": {"length": "short"}}):
        made.append(special | extra)
    return made
