"""A tool, declared in one place: everything a client, a policy or a document says is derived."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_type_hints, overload

from mcp_devops.model.action import ActionPlan
from mcp_devops.model.record import Record
from mcp_devops.toolkit.answer import Answer
from mcp_devops.toolkit.context import ToolContext
from mcp_devops.toolkit.risk import Rbac, Risk
from mcp_devops.toolkit.schema import input_schema, output_schema

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Answer)
C = TypeVar("C")

VERBS = frozenset(
    {
        *("list", "get", "show", "search", "compare", "explain", "plan", "describe", "tail"),
        *("check", "investigate", "decide", "draft"),
        *("restart", "scale", "roll_back", "pause", "resume", "retry"),
    }
)
"""Verbs a tool name may use after its system's name."""

NAME = re.compile(r"^([a-z][a-z0-9]*)_([a-z][a-z0-9_]*)$")
DESCRIPTION_LIMIT = 1024
"""Characters; clients cut at 2 KB, and every one is paid for in every session."""


class IncompleteDeclaration(TypeError):
    """A tool's declaration lacks something; raised at import, so it never ships."""


@dataclass(frozen=True)
class ToolSpec(Generic[In, Out, C]):
    """One tool.

    Attributes:
        name: `<system>_<verb>_<noun>`.
        title: For people.
        risk: What it may do.
        needs: Permissions that any call of it may need.
        input: Model of the arguments; its field docstrings are the schema's descriptions.
        output: Model of the answer.
        run: The function.
        plan: For change tools: works out, without changing anything, exactly what `run` will do.
        needs_for: Which of `needs` one call needs, by its arguments; all of them by default.
        needs_for_plan: The same by a change's plan, where the arguments do not tell.
        deadline_s: Seconds it may take; None: the server's default.
        tells_gaps: Whether a READ tool answers without a source that cannot be reached, and says
            what is missing; it is then called though its permissions could not be asked for.
    """

    name: str
    title: str
    risk: Risk
    needs: tuple[Rbac, ...]
    input: type[In]
    output: type[Out]
    run: Callable[[In, ToolContext[C]], Awaitable[Out]]
    plan: Callable[[In, ToolContext[C]], Awaitable[ActionPlan]] | None = None
    needs_for: Callable[[In], Sequence[Rbac]] | None = None
    needs_for_plan: Callable[[ActionPlan], Sequence[Rbac]] | None = None
    deadline_s: float | None = None
    tells_gaps: bool = False

    def __post_init__(self) -> None:
        match = NAME.fullmatch(self.name)
        if not match or not any(
            match[2] == verb or match[2].startswith(f"{verb}_") for verb in VERBS
        ):
            raise IncompleteDeclaration(
                f"{self.name}: a tool is <system>_<verb>_<noun>, verb one of {sorted(VERBS)}"
            )
        if not self.title or not self.description:
            raise IncompleteDeclaration(f"{self.name}: title and docstring are required")
        if len(self.description) > DESCRIPTION_LIMIT:
            raise IncompleteDeclaration(
                f"{self.name}: the docstring has {len(self.description)} characters,"
                f" limit {DESCRIPTION_LIMIT}"
            )
        for field, info in self.input.model_fields.items():
            if not info.description:
                raise IncompleteDeclaration(f"{self.name}: argument {field!r} has no docstring")
        if (self.risk is Risk.READ) != (self.plan is None):
            raise IncompleteDeclaration(f"{self.name}: a plan goes with a change, and only there")

    @property
    def system(self) -> str:
        """First word of the name: the tool set it belongs to."""
        return self.name.split("_", 1)[0]

    @property
    def description(self) -> str:
        """The function's docstring: what it does, when to use it, which tool comes next."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: a closed plain object without generated titles."""
        return input_schema(self.input)

    @property
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the answer's top level; nested records are plain objects in it."""
        return output_schema(self.output)

    @property
    def hints(self) -> Mapping[str, bool]:
        """The four MCP annotations."""
        return self.risk.hints()


AnyTool = ToolSpec[Any, Any, Any]


class Declare(Protocol):
    """Turns a tool's function into its declaration."""

    def __call__(
        self, run: Callable[[In, ToolContext[C]], Awaitable[Out]], /
    ) -> ToolSpec[In, Out, C]:
        """Check the function's annotations and docstring, and declare it."""
        ...


@overload
def tool(
    *,
    name: str,
    title: str,
    risk: Risk,
    needs: Sequence[Rbac] = (),
    deadline_s: float | None = None,
) -> Declare: ...


@overload
def tool(
    *,
    name: str,
    title: str,
    risk: Risk,
    needs: Sequence[Rbac] = (),
    plan: Callable[[In, ToolContext[C]], Awaitable[ActionPlan]],
    needs_for: Callable[[In], Sequence[Rbac]] | None = None,
    needs_for_plan: Callable[[ActionPlan], Sequence[Rbac]] | None = None,
    deadline_s: float | None = None,
) -> Callable[[Callable[[In, ToolContext[C]], Awaitable[Out]]], ToolSpec[In, Out, C]]: ...


@overload
def tool(
    *,
    name: str,
    title: str,
    risk: Risk,
    needs: Sequence[Rbac] = (),
    needs_for: Callable[[In], Sequence[Rbac]],
    deadline_s: float | None = None,
    tells_gaps: bool = False,
) -> Callable[[Callable[[In, ToolContext[C]], Awaitable[Out]]], ToolSpec[In, Out, C]]: ...


def tool(
    *,
    name: str,
    title: str,
    risk: Risk,
    needs: Sequence[Rbac] = (),
    plan: Callable[[In, ToolContext[C]], Awaitable[ActionPlan]] | None = None,
    needs_for: Callable[[In], Sequence[Rbac]] | None = None,
    needs_for_plan: Callable[[ActionPlan], Sequence[Rbac]] | None = None,
    deadline_s: float | None = None,
    tells_gaps: bool = False,
) -> Any:
    """Declare an async function `(args, context) -> Answer` as a tool.

    Raises:
        IncompleteDeclaration: Something is missing; at import.
    """

    def declare(run: Callable[[In, ToolContext[C]], Awaitable[Out]]) -> ToolSpec[In, Out, C]:
        hints = get_type_hints(run)
        model, answer = hints.get("args"), hints.get("return")
        if not (isinstance(model, type) and issubclass(model, Record)):
            raise IncompleteDeclaration(f"{name}: `args` must be annotated with a Record")
        if not (isinstance(answer, type) and issubclass(answer, Answer)):
            raise IncompleteDeclaration(f"{name}: it must return an Answer")
        return ToolSpec(
            name=name,
            title=title,
            risk=risk,
            needs=tuple(needs),
            input=model,  # type: ignore[arg-type]  # the annotation was checked above
            output=answer,  # type: ignore[arg-type]  # likewise
            run=run,
            plan=plan,
            needs_for=needs_for,
            needs_for_plan=needs_for_plan,
            deadline_s=deadline_s,
            tells_gaps=tells_gaps,
        )

    return declare
