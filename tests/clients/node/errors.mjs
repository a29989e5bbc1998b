// An error as Python is told of it: by the class that the client gave it.
export function described(error) {
  const { name, constructor, status, statusCode, code, message } = error;
  return { name: constructor.name === "Error" ? name : constructor.name, status: status ?? statusCode, code, message };
}
