// What a quick start is given, as in given.py.
export const URL = process.env.OPENAI_BASE_URL;
export const KEY = process.env.OPENAI_API_KEY;
export const MODEL = process.env.OPENAI_MODEL;
export const QUESTION = 'What is the capital of France?';
export const WEATHER = 'What is the weather like in Paris?';
export const ENOUGH = 200;
export const CITIES = ['Paris', 'Rome'];

export const getWeather = ({ city }) => `It is sunny in ${city}.`;
