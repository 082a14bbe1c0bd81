"""The look of the pages: two palettes of named colours, one sheet."""

from __future__ import annotations

LIGHT = {
    "page": "#f5f6f8", "card": "#ffffff", "line": "#d8dce3", "soft": "#eceff4",
    "ink": "#161a22", "dim": "#535b6b", "link": "#0b5cad",
    "good": "#146c34", "good-soft": "#e2f3e7",
    "warn": "#865000", "warn-soft": "#fcefd3",
    "bad": "#b3201c", "bad-soft": "#fde7e5",
    "old": "#1d5fb4", "new": "#b3201c", "all": "#5d6678",
    "before": "#dfe7f3", "after": "#f8e9de",
}  # fmt: skip
DARK = {
    "page": "#0f1217", "card": "#181c24", "line": "#333a47", "soft": "#232935",
    "ink": "#eceff4", "dim": "#a7b0c0", "link": "#7cb7ff",
    "good": "#6fd48f", "good-soft": "#12301d",
    "warn": "#f2bd5c", "warn-soft": "#36290d",
    "bad": "#ff8f86", "bad-soft": "#401a18",
    "old": "#7cb7ff", "new": "#ff8f86", "all": "#a7b0c0",
    "before": "#1f2a3d", "after": "#37281f",
}  # fmt: skip
TEXT_ON = (
    *((ink, ground) for ink in ("ink", "dim", "link") for ground in ("page", "card", "soft")),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *(("ink", f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *((tone, "card") for tone in ("good", "warn", "bad", "old", "new", "all")),
    *((ink, band) for ink in ("ink", "dim") for band in ("before", "after")),
)
"""Every pair of text and ground that the sheet uses."""


def _variables(palette: dict[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in palette.items())


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 overflow-wrap:anywhere}
main,header.top,footer{max-width:60rem;margin:0 auto;padding:0 1rem}
header.top{padding-top:1.25rem}
h1{font-size:1.9rem;line-height:1.15;margin:.1rem 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:0 0 .75rem;line-height:1.3}
h3{font-size:.95rem;margin:1.25rem 0 .4rem;line-height:1.3}
p{margin:.35rem 0}
a{color:var(--link)}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
 font-size:.88em}
.dim{color:var(--dim)}
.small{font-size:.875rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.1rem 1.2rem;
 margin:0 0 1rem}
.hero{border-left:8px solid var(--tone);background:var(--card)}
.tone-good{--tone:var(--good);--tone-soft:var(--good-soft)}
.tone-warn{--tone:var(--warn);--tone-soft:var(--warn-soft)}
.tone-bad{--tone:var(--bad);--tone-soft:var(--bad-soft)}
.where{font-weight:600;margin:0;display:-webkit-box;-webkit-box-orient:vertical;
 -webkit-line-clamp:3;overflow:hidden}
.lead{font-size:1.15rem;line-height:1.45;margin:.2rem 0 .6rem;max-width:46rem}
.state{color:var(--tone);display:flex;gap:.55rem;align-items:center}
.mark{display:inline-flex;flex:none;align-items:center;justify-content:center;width:1.45em;
 height:1.45em;border-radius:50%;background:var(--tone);color:var(--card);font-size:.72em;
 font-weight:700;line-height:1}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;
 margin:1rem 0 0;padding:0}
.facts div{background:var(--soft);border-radius:8px;padding:.5rem .7rem}
.facts dt{font-size:.8rem;color:var(--dim);line-height:1.3}
.facts dd{margin:.1rem 0 0;font-size:1.2rem;font-weight:650;line-height:1.25;
 font-variant-numeric:tabular-nums}
.facts dd small{display:block;font-size:.8rem;font-weight:400;color:var(--dim)}
.note{background:var(--tone-soft);border-left:5px solid var(--tone);border-radius:6px;
 padding:.65rem .85rem;margin:.75rem 0}
.note strong{color:var(--tone)}
.note ul{margin:.3rem 0 0;padding-left:1.2rem}
.next{margin:.9rem 0 0;padding:.65rem .85rem;border:1px solid var(--line);border-radius:6px}
nav.parts{display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:0 0 1rem;font-size:.9rem}
nav.parts a{padding:.3rem 0}
figure{margin:0 0 1.1rem}
figcaption{font-weight:600;font-size:.95rem;margin:0 0 .25rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:0 0 .8rem;padding:0;
 font-size:.875rem}
.legend li{display:flex;gap:.45rem;align-items:center}
.legend svg{width:34px;height:12px;flex:none}
svg.chart{display:block;width:100%;height:auto}
svg.narrow{display:none}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 fill:var(--dim)}
svg text.strong{fill:var(--ink);font-weight:600}
.axis{stroke:var(--line);stroke-width:1;fill:none}
.band-before{fill:var(--before)} .band-after{fill:var(--after)}
.s-all{stroke:var(--all);fill:none;stroke-width:2;stroke-dasharray:2 3}
.s-old{stroke:var(--old);fill:none;stroke-width:2.2;stroke-dasharray:7 4}
.s-new{stroke:var(--new);fill:none;stroke-width:2.8}
.p-all{fill:var(--all)} .p-old{fill:var(--old)} .p-new{fill:var(--new)}
.moment{stroke:var(--ink);stroke-width:1.5}
.moment-back{stroke:var(--good);stroke-width:2;stroke-dasharray:5 3}
.moment-scale{stroke:var(--warn);stroke-width:1.5;stroke-dasharray:1 3}
.blank{fill:none;stroke:var(--dim);stroke-width:1;stroke-dasharray:1 4}
.seen{fill:var(--good);stroke:var(--card);stroke-width:1.5}
.seen-bad{fill:var(--bad);stroke:var(--card);stroke-width:1.5}
.pods{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.8rem;
 margin:.6rem 0}
.pods>div{border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}
.dots{display:flex;flex-wrap:wrap;gap:.3rem;margin:.35rem 0;list-style:none;padding:0}
.pod{width:1.5rem;height:1.5rem;border-radius:5px;display:inline-flex;align-items:center;
 justify-content:center;font-size:.85rem;font-weight:700;background:var(--tone-soft);
 color:var(--tone);border:1.5px solid var(--tone)}
.rows{list-style:none;margin:0;padding:0}
.rows>li{padding:.55rem 0;border-top:1px solid var(--line)}
.rows>li:first-child{border-top:0}
.weight{display:grid;grid-template-columns:3.2rem 11rem 1fr;gap:.2rem .8rem;align-items:start}
.weight .value{font-weight:650;font-variant-numeric:tabular-nums;text-align:right}
.weight svg{width:100%;height:1.25rem;display:block;margin-top:.15rem}
.sides{display:grid;grid-template-columns:3.2rem 11rem 1fr;gap:.2rem .8rem;font-size:.8rem;
 color:var(--dim)}
.sides span+span{display:flex;justify-content:space-between}
.bar-blame{fill:var(--bad)} .bar-acquit{fill:var(--old)} .bar-share{fill:var(--all)}
.bar-top{fill:var(--ink)}
.bar-ground{fill:var(--soft)} .bar-axis{stroke:var(--dim);stroke-width:1}
.cause{display:grid;grid-template-columns:minmax(9rem,18rem) 1fr 4rem;gap:.2rem .8rem;
 align-items:center}
.cause svg{width:100%;height:.9rem;display:block}
.cause .value{text-align:right;font-variant-numeric:tabular-nums;font-weight:600}
.tag{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 .5rem;
 font-size:.8rem;color:var(--dim);margin-right:.35rem;white-space:nowrap}
.line{display:grid;grid-template-columns:5.2rem 1fr;gap:.1rem .9rem}
.line time{font-variant-numeric:tabular-nums;font-weight:600}
.line .off{display:block;font-size:.8rem;font-weight:400;color:var(--dim)}
.line .who{color:var(--dim);font-size:.875rem}
.key .what{font-weight:600}
.diff{display:grid;grid-template-columns:1fr 1fr;gap:.2rem .8rem}
.diff .path{grid-column:1/-1;font-weight:600}
.diff span b{font-weight:400;color:var(--dim);font-size:.8rem;display:block}
dl.pairs{display:grid;grid-template-columns:minmax(8rem,11rem) 1fr;gap:.35rem 1rem;margin:.4rem 0}
dl.pairs dt{color:var(--dim)}
dl.pairs dd{margin:0}
details{margin:.6rem 0}
summary{cursor:pointer;color:var(--link);padding:.25rem 0}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;width:100%}
caption{text-align:left;color:var(--dim);padding:.3rem 0}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
blockquote{margin:.4rem 0;padding:.4rem .7rem;background:var(--soft);border-radius:6px}
footer{color:var(--dim);font-size:.85rem;padding-bottom:2rem}
.list{display:grid;grid-template-columns:minmax(11rem,14rem) 1fr 8rem;gap:.2rem 1rem}
.list .state{font-weight:650}
.list .age{text-align:right;color:var(--dim)}
.pager{display:flex;gap:1rem;margin:1rem 0}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
@media (max-width:40rem){
 main,header.top,footer{padding-left:.7rem;padding-right:.7rem}
 .card{padding:.9rem .85rem}
 h1{font-size:1.55rem}
 .lead{font-size:1.05rem}
 .facts{grid-template-columns:1fr 1fr}
 .facts div:last-child:nth-child(odd){grid-column:1/-1}
 svg.wide{display:none}
 svg.narrow{display:block}
 .weight{grid-template-columns:3.2rem 1fr}
 .weight .says{grid-column:1/-1}
 .sides{grid-template-columns:3.2rem 1fr}
 .cause{grid-template-columns:1fr 4rem}
 .cause svg{grid-column:1/-1;grid-row:2}
 .diff{grid-template-columns:1fr}
 dl.pairs{grid-template-columns:1fr;gap:.05rem}
 dl.pairs dd{margin-bottom:.5rem}
 .list{grid-template-columns:1fr auto}
 .list .what{grid-column:1/-1}
 .list .age{grid-row:1;grid-column:2}
}
@media print{
 @page{margin:14mm}
 body{background:#fff;font-size:11pt}
 main,header.top,footer{max-width:none;padding:0}
 .card{break-inside:avoid-page;border-color:#999;margin-bottom:.6rem;padding:.7rem .9rem}
 .long{break-inside:auto}
 .where{display:block}
 .rows>li,figure,.note{break-inside:avoid}
 nav.parts,.pager{display:none}
 svg.wide{display:block}
 svg.narrow{display:none}
 details::details-content{content-visibility:visible;display:block}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""

CSS = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{_RULES}"
)
"""The sheet of every page."""

_ICON_COLOURS = {"good": "#146c34", "warn": "#865000", "bad": "#b3201c"}


def icon(tone: str) -> str:
    """The tab's icon: a disc in the tone of the incident."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        f'<circle cx="8" cy="8" r="7" fill="{_ICON_COLOURS[tone]}"/></svg>'
    )
