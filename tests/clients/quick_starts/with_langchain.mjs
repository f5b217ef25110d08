// @langchain/openai.
import assert from 'node:assert/strict';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAI } from '@langchain/openai';
import { z } from 'zod';
import { CITIES, ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER, getWeather } from '../given.mjs';

const server = { model: MODEL, apiKey: KEY, configuration: { baseURL: URL } };
const model = new ChatOpenAI({ ...server, maxTokens: ENOUGH });
const Answer = z.object({ city: z.enum(CITIES), is_capital: z.boolean() });
const weatherTool = tool(getWeather, {
  name: 'get_weather',
  description: 'The weather in a city.',
  schema: z.object({ city: z.enum(CITIES) }),
});

export default {
  async chat() {
    const answer = await model.invoke([
      ['system', 'You are a helpful assistant.'],
      ['human', QUESTION],
    ]);
    assert.ok(answer.text);
    assert.ok(answer.usage_metadata.output_tokens > 0);
  },

  async stream() {
    let text = '';
    for await (const chunk of await model.stream(QUESTION)) text += chunk.text;
    assert.ok(text);
  },

  async tools() {
    const options = { tool_choice: 'any', parallel_tool_calls: false };
    const answer = await model.bindTools([weatherTool], options).invoke(WEATHER);
    const result = await weatherTool.invoke(answer.tool_calls[0]);
    assert.ok(CITIES.map((city) => getWeather({ city })).includes(result.content));
    const last = model.bindTools([weatherTool], { tool_choice: 'none' });
    assert.ok((await last.invoke([['human', WEATHER], answer, result])).text);
  },

  async tools_streamed() {
    let whole;
    const withTools = model.bindTools([weatherTool], { tool_choice: 'get_weather' });
    for await (const chunk of await withTools.stream(WEATHER)) {
      whole = whole ? whole.concat(chunk) : chunk;
    }
    assert.ok(CITIES.includes(whole.tool_calls[0].args.city));
  },

  async structured_output() {
    for (const method of [undefined, 'functionCalling', 'jsonSchema']) {
      const structured = model.withStructuredOutput(Answer, { method });
      Answer.parse(await structured.invoke(QUESTION));
    }
  },

  async completions() {
    const text = new OpenAI({ ...server, maxTokens: 8 });
    assert.ok(await text.invoke('The capital of France is'));
  },
};
