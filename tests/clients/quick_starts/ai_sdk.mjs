// What the AI SDK does with a model of a server, whichever provider the model is of.
import assert from 'node:assert/strict';
import { Output, generateObject, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';
import { CITIES, ENOUGH, QUESTION, WEATHER, getWeather } from '../given.mjs';

const Answer = z.object({ city: z.enum(CITIES), is_capital: z.boolean() });
const tools = {
  get_weather: tool({
    description: 'The weather in a city.',
    inputSchema: z.object({ city: z.enum(CITIES) }),
    execute: async (given) => getWeather(given),
  }),
};

export const featuresOf = (model, textModel) => ({
  async chat() {
    const { text, usage } = await generateText({
      model,
      prompt: QUESTION,
      maxOutputTokens: ENOUGH,
    });
    assert.ok(text);
    assert.ok(usage.outputTokens > 0);
  },

  async stream() {
    const { textStream, usage } = streamText({
      model,
      prompt: QUESTION,
      maxOutputTokens: ENOUGH,
      onError: ({ error }) => { throw error; },
    });
    let text = '';
    for await (const piece of textStream) text += piece;
    assert.ok(text);
    assert.ok((await usage).outputTokens > 0);
  },

  async tools() {
    const { toolResults } = await generateText({
      model,
      prompt: WEATHER,
      tools,
      toolChoice: { type: 'tool', toolName: 'get_weather' },
      stopWhen: isStepCount(1),
    });
    assert.ok(CITIES.map((city) => getWeather({ city })).includes(toolResults[0].output));
  },

  async tools_streamed() {
    const { toolCalls } = streamText({
      model,
      prompt: WEATHER,
      tools,
      toolChoice: { type: 'tool', toolName: 'get_weather' },
      stopWhen: isStepCount(1),
      onError: ({ error }) => { throw error; },
    });
    assert.ok(CITIES.includes((await toolCalls)[0].input.city));
  },

  // The model may call or not.
  async agent() {
    const { steps } = await generateText({
      model,
      prompt: WEATHER,
      tools,
      stopWhen: isStepCount(3),
      maxOutputTokens: ENOUGH,
    });
    assert.ok(steps.length > 0);
  },

  async structured_output() {
    const { object } = await generateObject({ model, schema: Answer, prompt: QUESTION });
    Answer.parse(object);
    const { output } = await generateText({
      model,
      output: Output.object({ schema: Answer }),
      prompt: QUESTION,
    });
    Answer.parse(output);
  },

  async completions() {
    const { text } = await generateText({
      model: textModel,
      prompt: 'The capital of France is',
      maxOutputTokens: 8,
    });
    assert.ok(text);
  },
});
