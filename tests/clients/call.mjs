// Run the features of one quick start: `node call.mjs with_openai`. As call.py does.
const features = await import(`./quick_starts/${process.argv[2]}.mjs`);
const report = (feature, failure) => console.log(JSON.stringify({ feature, failure }));
for (const [name, run] of Object.entries(features.default)) {
  try {
    await run();
    report(name, null);
  } catch (error) {
    console.error(error);
    report(name, `${error.name}: ${error.message}`);
  }
}
process.exit();
