// Unpacks the browser that came compressed in its package into node_modules/.browser: tools/setup.sh runs it once.
import { createReadStream, createWriteStream, mkdirSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { extract } from "tar-fs";

const packed = new URL("node_modules/@sparticuz/chromium/bin/", import.meta.url);
const target = new URL("node_modules/.browser/", import.meta.url);
mkdirSync(target, { recursive: true });

const read = (name) => createReadStream(new URL(name, packed));
await pipeline(read("chromium.br"), createBrotliDecompress(), createWriteStream(new URL("chromium", target), { mode: 0o755 }));
await pipeline(read("al2023.tar.br"), createBrotliDecompress(), extract(target.pathname)); // libraries that a bare system lacks
