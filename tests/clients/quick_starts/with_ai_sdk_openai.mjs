// The AI SDK with @ai-sdk/openai, by its chat: what it does by default is OpenAI's Responses.
import { createOpenAI } from '@ai-sdk/openai';
import { KEY, MODEL, URL } from '../given.mjs';
import { featuresOf } from './ai_sdk.mjs';

const provider = createOpenAI({ baseURL: URL, apiKey: KEY });

export default featuresOf(provider.chat(MODEL), provider.completion(MODEL));
