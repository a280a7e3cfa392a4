const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

// Swagger UI compiles each `pattern` without the flag `u`: \p{L} then fits no name, and it refuses to
// send any. Left out here, such patterns are checked by the service alone.
const withoutUnicodePatterns = (text) =>
  JSON.stringify(
    JSON.parse(text, (name, value) => (name === "pattern" && /\\p\{/i.test(value) ? undefined : value)),
  );

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  validatorUrl: null,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  plugins: [
    () => ({
      statePlugins: {
        spec: { wrapActions: { updateSpec: (update) => (text) => update(text && withoutUnicodePatterns(text)) } },
      },
    }),
  ],
  onComplete() {
    // What was rendered above has pushed the entry asked for out of sight.
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  },
});
