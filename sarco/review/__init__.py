"""Looking at a prediction and correcting it: contact sheet, review page, corrections and what follows from them."""
