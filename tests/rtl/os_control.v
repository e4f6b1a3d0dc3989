// Says when folds of an output-stationary array begin and drain.
//
// One bank: a fold begins when the last sum of the one before has left (`left`). Two banks: when the last element of
// the one before is in and its bias wires, busy for ROWS cycles, are free. Column 0 drains once `ended`, its bottom PE
// having added the last product.
module os_control #(
    parameter ROWS = 4,
    parameter BANKS = 1,
    parameter ADDRESS_BITS = 16
) (
    input wire clk,
    input wire reset,
    input wire run,
    input wire [ADDRESS_BITS-1:0] fold_count,
    input wire [ADDRESS_BITS-1:0] length,
    input wire ended,
    input wire left,
    // Elements asked for so far, the fold that they belong to, whether one enters row 0, is a fold's first, its last.
    output reg [ADDRESS_BITS-1:0] stream_address,
    output reg [ADDRESS_BITS-1:0] fold,
    output wire stream,
    output wire first,
    output wire last,
    output wire bank,
    // Whether column 0 puts out a sum, the last one of a fold; drain bits of column 0.
    output wire out,
    output wire out_last,
    output wire [ROWS-1:0] drain,
    output wire drain_bank,
    // From the first element to the last sum.
    output wire busy
);
    localparam [ADDRESS_BITS-1:0] ALL_ROWS = ROWS[ADDRESS_BITS-1:0];
    localparam [ADDRESS_BITS-1:0] ONE = 1;

    reg [ADDRESS_BITS-1:0] begun, done, drained, wires_busy, next_element, next_step;
    reg streaming;

    wire free = BANKS == 2 ? wires_busy == {ADDRESS_BITS{1'b0}} : begun == done;
    wire [ADDRESS_BITS-1:0] element = first ? {ADDRESS_BITS{1'b0}} : next_element;
    wire [ADDRESS_BITS-1:0] step = ended ? {ADDRESS_BITS{1'b0}} : next_step;

    assign first = run && begun != fold_count && !streaming && free;
    assign stream = first || streaming;
    assign last = stream && element == length - ONE;
    assign bank = BANKS == 2 && fold[0];
    assign out = step != ALL_ROWS;
    assign out_last = step == ALL_ROWS - ONE;
    assign drain_bank = BANKS == 2 && drained[0];
    assign busy = run && done != fold_count;

    genvar r;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : g_row
            assign drain[r] = out && step + ONE <= r;
        end
    endgenerate

    always @(posedge clk)
        if (reset) begin
            stream_address <= {ADDRESS_BITS{1'b0}};
            fold <= {ADDRESS_BITS{1'b0}};
            begun <= {ADDRESS_BITS{1'b0}};
            done <= {ADDRESS_BITS{1'b0}};
            drained <= {ADDRESS_BITS{1'b0}};
            wires_busy <= {ADDRESS_BITS{1'b0}};
            next_element <= {ADDRESS_BITS{1'b0}};
            next_step <= ALL_ROWS;
            streaming <= 1'b0;
        end else begin
            streaming <= stream && !last;
            if (first) begun <= begun + ONE;
            if (first) wires_busy <= ALL_ROWS - ONE;
            else if (wires_busy != {ADDRESS_BITS{1'b0}}) wires_busy <= wires_busy - ONE;
            if (stream) begin
                next_element <= element + ONE;
                stream_address <= stream_address + ONE;
            end
            if (last) fold <= fold + ONE;
            if (out) next_step <= step + ONE;
            if (out_last) drained <= drained + ONE;
            if (left) done <= done + ONE;
        end
endmodule
