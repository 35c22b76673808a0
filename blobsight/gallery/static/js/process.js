/** TanStack Virtual asks Node's `process` whether it is being developed. Browsers have none. */
globalThis.process ??= { env: { NODE_ENV: "production" } };
