"""How the page looks: light and dark, narrow and wide, on paper."""

STYLE = """
:root{--ground:#fff;--card:#f5f6f8;--ink:#1b1f24;--soft:#59636e;--line:#e1e5ea;--mark:#2563eb;--fill:#cfdefb;
--good:#15803d;--bad:#b91c1c;--hit:96 165 250;--miss:251 146 60;
--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#db2777;--c4:#7c3aed;--c5:#4b5563}
@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1d2126;--ink:#e8eaed;--soft:#9aa4af;--line:#30363d;
--mark:#7aa7ff;--fill:#27406e;--good:#4ade80;--bad:#f87171;--hit:29 78 216;--miss:194 65 12;
--c0:#7aa7ff;--c1:#fbbf24;--c2:#34d399;--c3:#f472b6;--c4:#b794f6;--c5:#b6bec8}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;line-height:1.25;letter-spacing:-.01em;margin:0 0 4px;overflow-wrap:anywhere;text-wrap:balance}
h2{font-size:18px;line-height:1.3;margin:44px 0 4px}
p{margin:0 0 12px;color:var(--soft);max-width:78ch;text-wrap:pretty}
p b{color:var(--ink);font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0 0;font-size:14px}
a{color:var(--mark);text-decoration:none}
a:hover{text-decoration:underline}
.note{font-size:13px;margin:10px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr));gap:12px;margin:20px 0 0}
.tile{background:var(--card);border-radius:10px;padding:14px 16px;display:flex;flex-direction:column}
.tile span{color:var(--soft);font-size:13px;font-weight:600}
.tile b{font-size:32px;line-height:1.2;font-weight:650;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.tile small{color:var(--soft);font-size:12.5px;font-variant-numeric:tabular-nums}
.tile.first{background:var(--fill)}
.tile.first span,.tile.first small{color:inherit;opacity:.8}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:12px 0 0}
.figures div{flex:1 1 96px;background:var(--card);border-radius:10px;padding:9px 16px 10px}
dt{color:var(--soft);font-size:12.5px;font-weight:600;white-space:nowrap}
dd{margin:0;font-size:18px;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto;outline-offset:2px}
.tall{max-height:75vh;overflow:auto;border-bottom:1px solid var(--line)}
.tall thead th{position:sticky;top:0;background:var(--ground);z-index:2}
.tall tfoot>tr>*{position:sticky;bottom:0;background-color:var(--ground);z-index:2}
table{border-collapse:separate;border-spacing:0;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{text-align:right;padding:5px 9px;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
thead th{font-weight:600;color:var(--soft);font-size:12px;vertical-align:bottom}
tfoot th,tfoot td{font-weight:600;border-bottom:0}
th.kind,td.kind{text-align:left;color:var(--soft)}
td.kind{font-size:13px}
th:first-child{text-align:left;position:sticky;left:0;background:var(--ground);z-index:1}
.tall th:first-child{z-index:2}
.tall thead th:first-child,.tall tfoot th:first-child{z-index:3}
td b{font-weight:700}
th.name{max-width:32ch;overflow:hidden;text-overflow:ellipsis}
th.part{padding-left:26px;color:var(--soft)}
.sample{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:8px;vertical-align:-1px;
box-shadow:inset 0 0 0 1px rgb(128 128 128/.5)}
td.bar{min-width:100px;
background:linear-gradient(var(--fill) 0 0) no-repeat 9px 50%/calc((100% - 64px)*var(--share)) 58%}
.many th,.many td{padding-left:7px;padding-right:7px}
.many td.bar{min-width:88px;background-position-x:7px}
.versus thead th{border-bottom:3px solid var(--line)}
.versus thead .entry{white-space:normal;overflow-wrap:break-word;min-width:11ch;border-bottom-color:var(--series)}
.versus tfoot td{font-weight:400}
.metrics{width:auto;min-width:min(100%,480px)}
.metrics th,.metrics td{padding-right:20px}
.better{color:var(--good)}.worse{color:var(--bad)}
figure{margin:18px 0 0}
figcaption{color:var(--soft);font-size:13px;margin-bottom:5px;overflow-wrap:anywhere}
figcaption b{color:var(--ink);font-weight:600;margin-right:6px}
.plots{display:grid;gap:18px}
.plots figure{margin:0;min-width:0}
.plots.small{grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr))}
.axes{position:relative;height:124px;padding:10px 12px 22px 38px;background:var(--card);border-radius:8px}
.small .axes{height:92px}
.axes svg{display:block;width:100%;height:100%;overflow:visible}
.axes span{position:absolute;color:var(--soft);font-size:11px;line-height:1;font-variant-numeric:tabular-nums}
.axes .high,.axes .mid,.axes .low{right:calc(100% - 32px)}
.axes .high{top:5px}.axes .mid{top:calc(50% - 11px)}.axes .low{bottom:17px}
.axes .from{left:38px;bottom:4px}.axes .to{right:12px;bottom:4px}
.plot line{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
.plot polyline{fill:none;stroke:var(--series);stroke-width:1.5;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.s0{--series:var(--c0)}.s1{--series:var(--c1)}.s2{--series:var(--c2)}
.s3{--series:var(--c3)}.s4{--series:var(--c4)}.s5{--series:var(--c5)}
.d1 polyline{stroke-dasharray:5 3}.d2 polyline{stroke-dasharray:1.5 2.5}
.key{display:inline-block;width:16px;height:0;border-top:3px solid var(--series);border-radius:2px;margin-right:6px;
vertical-align:4px}
.key.d1{border-top-style:dashed}.key.d2{border-top-style:dotted}
.legend{display:flex;flex-wrap:wrap;gap:2px 22px;list-style:none;margin:0 0 10px;padding:0;font-size:14px}
.means{margin-left:3px}.means span{margin-right:10px;white-space:nowrap;font-variant-numeric:tabular-nums}
.lives th:first-child{max-width:17ch;overflow:hidden;text-overflow:ellipsis}
.lives th,.lives td{padding-top:3px;padding-bottom:3px;border-bottom:0}
.lives thead th{border-bottom:1px solid var(--line)}
.lives th.axis{width:100%;min-width:280px}
.axis span{display:inline-block;width:33.33%;text-align:center;font-weight:400}
.axis span:first-child{text-align:left}.axis span:last-child{text-align:right}
.life div{position:relative;height:16px;background:linear-gradient(var(--card) 0 0)}
.life i,.life b{position:absolute;top:0;bottom:0;min-width:1px;font:600 11px/16px system-ui,sans-serif;
text-align:left;text-indent:4px;overflow:hidden;white-space:nowrap}
.life i.gone,.life-key.gone{background:linear-gradient(var(--bad) 0 0) no-repeat 0 50%/100% 2px}
.life b{top:-2px;bottom:-2px;width:2px;margin-left:-1px;background:var(--ink);box-shadow:0 0 0 1px var(--ground)}
.busy b{width:1px;margin-left:0;box-shadow:none}
.life-key{display:inline-block;width:22px;height:12px;margin:0 3px 0 2px;vertical-align:-1.5px;background:#59b3ff}
.life-key.switch{width:2px;margin:0 6px 0 4px;background:var(--ink)}
.confusion{width:auto;font-size:12px}
.confusion td{min-width:30px;height:26px;padding:0 2px;text-align:center;border:1px solid var(--ground);
background:var(--card)}
.confusion th{border-bottom:0;padding:0 10px 0 0;color:var(--ink);font-weight:400}
.confusion .corner{color:var(--soft);font-weight:400;vertical-align:bottom;padding-bottom:6px}
.confusion .column{position:static;vertical-align:bottom;padding:0 0 6px;text-align:center}
.tall .confusion .column{position:sticky}
.column span{display:inline-block;writing-mode:vertical-rl;transform:rotate(180deg);line-height:1.2;
vertical-align:bottom;max-height:150px;overflow:hidden;text-overflow:ellipsis}
.column .sample{margin:0 0 7px;vertical-align:0}
.confusion.dense{font-size:11px}
.confusion.dense td{min-width:13px;width:13px;height:13px;padding:0;border:0;
box-shadow:inset 0 0 0 .5px var(--ground)}
.confusion.dense th{line-height:13px}.dense .sample{width:9px;height:9px;border-radius:2px;margin-right:5px}
.dense .column span{line-height:13px}.dense .column .sample{margin:0 0 5px}
td.hit{box-shadow:inset 0 0 0 1px rgb(var(--hit)/.6)}
.confusion td.hit[style]{background:rgb(var(--hit)/var(--v))}
.confusion td.miss{background:linear-gradient(rgb(var(--miss)/var(--v)) 0 0) var(--card)}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:24px 20px;margin-top:12px}
.pictures figure{margin:0}
.panel{margin-top:6px}
.panel span{display:block;font-size:12px;color:var(--soft);line-height:1.5}
img{display:block;width:100%;height:auto;border-radius:6px}
details{margin-top:14px;border:1px solid var(--line);border-radius:10px;padding:0 18px}
details[open]{padding-bottom:24px}
summary{cursor:pointer;padding:12px 0;font-variant-numeric:tabular-nums;color:var(--soft)}
summary b{color:var(--ink);font-size:17px;font-weight:600;margin:0 10px 0 2px;overflow-wrap:anywhere}
details h2{font-size:16px;margin-top:32px}
@media(max-width:900px){.life i{font-size:0}}
@media(max-width:600px){.tiles{grid-template-columns:repeat(auto-fit,minmax(min(165px,100%),1fr))}
main{padding:24px 14px 48px}h2{margin-top:36px}th.kind,td.kind{display:none}
.metrics th,.metrics td{padding-right:9px}details{padding:0 12px}}
@media print{*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.tall{max-height:none}
nav{display:none}figure,tr{break-inside:avoid}}
"""
