// Passes on what the server named by the first argument answers, compressed where its headers allow that.
// Says its port, and ends when its standard input does.
"use strict";

const compression = require("compression");
const express = require("express");
const { createProxyMiddleware } = require("http-proxy-middleware");

const app = express();
app.use(compression());
app.use(createProxyMiddleware({ target: process.argv[2], logLevel: "warn" }));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
