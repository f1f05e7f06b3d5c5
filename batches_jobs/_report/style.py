"""The style sheet of a report's page. It follows the reader's choice of light or dark."""

STYLE = """
:root{color-scheme:light dark;--page:#f7f8f9;--card:#fff;--text:#1c2329;--soft:#5a6670;
--line:#dfe4e8;--main:#3b6ea5;--area:#3b6ea52e;--second:#a9bfd6;--bad:#c0532f;--good:#3f7f5f;
--warn:#c79a3b}
@media (prefers-color-scheme:dark){:root{--page:#14181c;--card:#1c2227;--text:#e4e9ed;
--soft:#9aa7b2;--line:#323b43;--main:#6fa3d8;--area:#6fa3d833;--second:#4d6d8e;--bad:#e0815f;
--good:#6db690;--warn:#d9b25f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:960px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.55rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 4px}
p{margin:0 0 12px}
.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:18px 20px;margin-top:18px}
.tiles{display:flex;flex-wrap:wrap;gap:1px;
background:var(--line);border:1px solid var(--line);border-radius:8px;
overflow:hidden;margin:18px 0 0}
.tiles div{background:var(--card);padding:12px 14px;flex:1 1 132px}
.tiles dt{color:var(--soft);font-size:.82rem}
.tiles dd{margin:0;font-size:1.2rem;font-weight:600;font-variant-numeric:tabular-nums}
.tiles dd small{display:block;font-size:.82rem;font-weight:400;color:var(--soft)}
.note{border-left:3px solid var(--warn);padding:2px 12px;margin:12px 0}
svg{display:block;width:100%;height:auto;margin:8px 0}
svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg text.label{fill:var(--text)}
.grid{stroke:var(--line)}
.limit{stroke:var(--bad);stroke-dasharray:5 4}
.area{fill:var(--area);stroke:var(--main);stroke-width:1.2}
.waiting{fill:var(--main)}
.download{fill:var(--second)}
.lost{fill:var(--bad)}
.narrow{display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:0;list-style:none;
font-size:.86rem;color:var(--soft)}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}
.bar{display:flex;height:12px;min-width:90px;border-radius:3px;overflow:hidden;background:var(--line)}
.bar i{display:block}
.answered{background:var(--good)}.retried{background:var(--warn)}.failed{background:var(--bad)}
.missing{background:var(--soft)}.open{background:var(--line)}
.k-waiting{background:var(--main)}.k-download{background:var(--second)}.k-lost{background:var(--bad)}
.scroll{overflow-x:auto}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--main);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin-top:8px}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
th{font-weight:600;color:var(--soft)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.words{min-width:220px;white-space:normal;overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
tr.sum td{font-weight:600}
details{margin-top:8px}
summary{cursor:pointer;color:var(--soft);font-size:.9rem}
footer{color:var(--soft);font-size:.85rem;margin-top:22px}
@media (max-width:640px){main{padding:20px 12px 36px}section{padding:14px}
.wide{display:none}.narrow{display:block}.tiles div{flex-basis:40%}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
