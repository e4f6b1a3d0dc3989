// Says when folds of a weight- or input-stationary array load and stream.
//
// One bank: a fold loads when the last sum of the one before has left (`collected`). Two banks: when that one starts
// to stream. A fold streams once it is loaded and the last element of the one before is in.
module stationary_control #(
    parameter ROWS = 4,
    parameter BANKS = 1,
    parameter ADDRESS_BITS = 16
) (
    input wire clk,
    input wire reset,
    input wire run,
    input wire [ADDRESS_BITS-1:0] fold_count,
    // The fold that streams or will next, its length, whether its last sum is entering a register at the bottom.
    output reg [ADDRESS_BITS-1:0] fold,
    input wire [ADDRESS_BITS-1:0] length,
    input wire collected,
    // Loading: rows asked for so far, the row now, shift bits of column 0.
    output reg [ADDRESS_BITS-1:0] load_address,
    output wire load,
    output wire [ROWS-1:0] shift,
    output wire load_bank,
    // Streaming: elements asked for so far, the element now and its number within the fold.
    output reg [ADDRESS_BITS-1:0] stream_address,
    output wire stream,
    output wire select,
    output wire [ADDRESS_BITS-1:0] element,
    output wire last,
    // From the first load to the last sum.
    output wire busy
);
    localparam [ADDRESS_BITS-1:0] ALL_ROWS = ROWS[ADDRESS_BITS-1:0];
    localparam [ADDRESS_BITS-1:0] ONE = 1;

    reg [ADDRESS_BITS-1:0] loads, done, next_step, next_element;
    reg pending, streaming, bank;

    wire stream_begin = pending && next_step == ALL_ROWS && !streaming;
    wire free = BANKS == 2 ? !pending || stream_begin : loads == done;
    wire load_begin = run && loads != fold_count && free;
    wire [ADDRESS_BITS-1:0] step = load_begin ? {ADDRESS_BITS{1'b0}} : next_step;

    assign load = load_begin || (pending && next_step != ALL_ROWS);
    assign load_bank = BANKS == 2 && (load_begin ? loads[0] : bank);
    assign stream = stream_begin || streaming;
    assign select = BANKS == 2 && fold[0];
    assign element = stream_begin ? {ADDRESS_BITS{1'b0}} : next_element;
    assign last = stream && element == length - ONE;
    assign busy = run && done != fold_count;

    genvar r;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : g_row
            assign shift[r] = load && step + ONE > r;
        end
    endgenerate

    always @(posedge clk)
        if (reset) begin
            loads <= {ADDRESS_BITS{1'b0}};
            done <= {ADDRESS_BITS{1'b0}};
            fold <= {ADDRESS_BITS{1'b0}};
            load_address <= {ADDRESS_BITS{1'b0}};
            stream_address <= {ADDRESS_BITS{1'b0}};
            next_step <= {ADDRESS_BITS{1'b0}};
            next_element <= {ADDRESS_BITS{1'b0}};
            pending <= 1'b0;
            streaming <= 1'b0;
            bank <= 1'b0;
        end else begin
            pending <= load_begin || (pending && !stream_begin);
            streaming <= stream && !last;
            bank <= load_bank;
            if (load_begin) loads <= loads + ONE;
            if (load) begin
                next_step <= step + ONE;
                load_address <= load_address + ONE;
            end
            if (stream) begin
                next_element <= element + ONE;
                stream_address <= stream_address + ONE;
            end
            if (last) fold <= fold + ONE;
            if (collected) done <= done + ONE;
        end
endmodule
